#include "emulated_cuda.h"

#if defined(LA_EMULATED_CUDA)
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/emulated/emulated_runtime.h"
#endif

namespace liveavatar {

#if defined(LA_EMULATED_CUDA)

namespace {

class EmulatedCuda : public DeviceSource {
 public:
  explicit EmulatedCuda(const EmulatedCudaOptions& o)
      : device_(cuda::make_emulated_runtime({.memory_bytes = o.memory_bytes, .stream_seed = o.stream_seed}), 0) {}
  Allocator& allocator() override { return device_; }
  Expected<std::unique_ptr<Backend>> open(const BackendOptions& options) override {
    return cuda::CudaBackend::open(device_, options);
  }

 private:
  cuda::CudaDevice device_;
};

}  // namespace

std::unique_ptr<DeviceSource> emulated_cuda(const EmulatedCudaOptions& options) {
  return std::make_unique<EmulatedCuda>(options);
}

#else

std::unique_ptr<DeviceSource> emulated_cuda(const EmulatedCudaOptions&) { return nullptr; }

#endif

}  // namespace liveavatar
