// A CUDA backend on the emulated device, and operands in its memory.
#pragma once

#include <memory>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "core/memory.h"

namespace liveavatar::cuda {

struct Machine {
  std::unique_ptr<CudaDevice> device;
  std::unique_ptr<Backend> backend;
  CudaBackend& cuda() { return static_cast<CudaBackend&>(*backend); }
};

// Copies of host tensors, freed with this object.
class DeviceOperands {
 public:
  explicit DeviceOperands(Machine& machine)
      : backend_(*machine.backend), budget_(Budget::kUnlimited, *machine.device, host_) {}
  Tensor operator()(const Tensor& host) {
    memory_.push_back(*Buffer::allocate(budget_, MemoryCategory::kRuntime, host.bytes()));
    const Tensor copy(memory_.back().data(), host.shape, host.dtype, backend_.device());
    backend_.upload(host.address(), copy);
    return copy;
  }

 private:
  Backend& backend_;
  Budget host_, budget_;
  std::vector<Buffer> memory_;
};

}  // namespace liveavatar::cuda
