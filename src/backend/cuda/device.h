// A CUDA device as the engine knows it: its memory, and the first error, which sticks.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "backend/cuda/copies.h"
#include "backend/cuda/runtime.h"
#include "core/device.h"

namespace liveavatar::cuda {

class CudaDevice final : public Allocator {
 public:
  CudaDevice(std::unique_ptr<Runtime> runtime, uint8_t index)
      : runtime_(std::move(runtime)), index_(index), pinned_(*this) {}

  Runtime& runtime() { return *runtime_; }
  Device device() const override { return {Device::Kind::kCuda, index_}; }
  // The driver gives large pieces in whole granules, small ones as parts of a shared granule.
  size_t taken_bytes(size_t bytes) const override;
  Expected<std::byte*> allocate(size_t bytes) override;
  void free(std::byte* memory, size_t bytes) override;
  Status write(std::byte* to, const void* host, size_t bytes) override;
  Status read(const std::byte* from, void* host, size_t bytes) override;
  Allocator& staging() override { return pinned_; }
  Expected<std::unique_ptr<CopyQueue>> open_copies() override;

  // Keeps the first error of the runtime; `what` failed. After an error in a kernel a device does nothing any more.
  // Thread-safe. Returns whether there is no error so far.
  bool check(int error, const std::string& what);
  void fail(const Status& why);  // as check() of an error
  bool failed() const;
  Status status() const;

 private:
  std::unique_ptr<Runtime> runtime_;
  uint8_t index_;
  PinnedAllocator pinned_;
  mutable std::mutex mutex_;
  Status status_;
};

}  // namespace liveavatar::cuda
