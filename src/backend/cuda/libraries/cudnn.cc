// Opened at run time: the program neither links it nor needs it.
#include "backend/cuda/libraries/cudnn.h"

#include <cuda_runtime_api.h>

#include <array>
#include <vector>

#include "backend/cuda/libraries/cudnn_graph.h"

namespace liveavatar::cuda {
namespace {

std::string version_text(size_t version) {  // 91900: 9.19.0
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

// What a plan is made for.
struct Shape {
  explicit Shape(const LibraryConv& c)
      : sizes{c.frames, c.rows, c.columns, c.in_channels, c.out_channels, c.kernel[0], c.kernel[1], c.kernel[2]},
        adds(c.adds) {}
  bool operator==(const Shape&) const = default;
  std::array<int64_t, 8> sizes;
  bool adds;
};

class Cudnn final : public ConvLibrary {
 public:
  Cudnn(int device, const CudnnFunctions& f) : device_(device), f_(f), handle_(nullptr, f.destroy) {}

  Status open() {
    if (const cudaError_t error = cudaSetDevice(device_); error != cudaSuccess)
      return unsupported(std::string("cuDNN: ") + cudaGetErrorString(error));
    cudnnHandle_t handle = nullptr;
    LA_RETURN_IF_ERROR(check_cudnn(f_, f_.create(&handle), "cudnnCreate"));
    handle_.reset(handle);
    return {};
  }

  std::string name() const override { return "cuDNN " + version_text(f_.version()); }

  Status enqueue(const LibraryConv& c, void* stream) override {
    cudaSetDevice(device_);  // the current card is one of a thread
    LA_ASSIGN_OR_RETURN(const CudnnPlan* plan, plan_of(c));
    LA_ASSIGN_OR_RETURN(const CudnnDescriptor operands, make_operands(c));
    LA_RETURN_IF_ERROR(check_cudnn(f_, f_.set_stream(handle_.get(), static_cast<cudaStream_t>(stream)), "a stream"));
    return check_cudnn(f_, f_.execute(handle_.get(), plan->plan.get(), operands.get()), "a convolution");
  }

 private:
  struct Kept {
    Shape shape;
    CudnnPlan plan;
  };

  Expected<const CudnnPlan*> plan_of(const LibraryConv& c) {
    const Shape shape(c);
    for (const std::unique_ptr<Kept>& kept : plans_)
      if (kept->shape == shape) return static_cast<const CudnnPlan*>(&kept->plan);
    LA_ASSIGN_OR_RETURN(CudnnPlan plan, plan_conv(f_, {handle_.get()}, c));
    plans_.push_back(std::make_unique<Kept>(Kept{shape, std::move(plan)}));
    return static_cast<const CudnnPlan*>(&plans_.back()->plan);
  }

  // The addresses of a call.
  Expected<CudnnDescriptor> make_operands(const LibraryConv& c) const {
    LA_ASSIGN_OR_RETURN(CudnnDescriptor operands, CudnnDescriptor::create(f_, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR));
    const int64_t names[] = {kCudnnX, kCudnnW, kCudnnOut};
    const void* addresses[] = {c.x, c.w, c.out};
    LA_RETURN_IF_ERROR(operands.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, names));
    LA_RETURN_IF_ERROR(operands.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, addresses));
    LA_RETURN_IF_ERROR(operands.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &c.workspace));
    LA_RETURN_IF_ERROR(operands.finalise("the operands"));
    return operands;
  }

  int device_;
  CudnnFunctions f_;
  std::unique_ptr<cudnnContext, cudnnStatus_t (*)(cudnnHandle_t)> handle_;
  std::vector<std::unique_ptr<Kept>> plans_;  // they die before the handle
};

}  // namespace

Expected<std::unique_ptr<ConvLibrary>> open_cudnn(int device) {
  LA_ASSIGN_OR_RETURN(const CudnnFunctions functions, load_cudnn());
  auto opened = std::make_unique<Cudnn>(device, functions);
  LA_RETURN_IF_ERROR(opened->open());
  return std::unique_ptr<ConvLibrary>(std::move(opened));
}

}  // namespace liveavatar::cuda
