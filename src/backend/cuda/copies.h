// Copies on a stream of their own, and the pinned host memory that they need.
#pragma once

#include "backend/cuda/handles.h"
#include "core/device.h"

namespace liveavatar::cuda {

class CudaDevice;

class PinnedAllocator final : public Allocator {
 public:
  explicit PinnedAllocator(CudaDevice& device) : device_(device) {}
  Device device() const override { return {}; }
  Expected<std::byte*> allocate(size_t bytes) override;
  void free(std::byte* memory, size_t bytes) override;
  Status write(std::byte* to, const void* host, size_t bytes) override;
  Status read(const std::byte* from, void* host, size_t bytes) override;

 private:
  CudaDevice& device_;
};

class StreamCopies final : public CopyQueue {
 public:
  StreamCopies(CudaDevice& device, StreamHandle stream) : device_(device), stream_(std::move(stream)) {}
  ~StreamCopies() override { static_cast<void>(finish()); }  // the device keeps its error
  void write(std::byte* to, const std::byte* host, size_t bytes) override;
  void read(const std::byte* from, std::byte* host, size_t bytes) override;
  Status finish() override;

 private:
  CudaDevice& device_;
  StreamHandle stream_;
};

}  // namespace liveavatar::cuda
