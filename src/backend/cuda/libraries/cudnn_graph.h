// A convolution as cuDNN's graph API has it. cudnn.h gives the types alone: the functions come from a library that was
// opened at run time.
#pragma once

#include <cudnn.h>

#include <string>
#include <utility>

#include "backend/cuda/library.h"

namespace liveavatar::cuda {

struct CudnnFunctions {
  decltype(&::cudnnCreate) create;
  decltype(&::cudnnDestroy) destroy;
  decltype(&::cudnnSetStream) set_stream;
  decltype(&::cudnnGetVersion) version;
  decltype(&::cudnnGetErrorString) status_text;
  decltype(&::cudnnBackendCreateDescriptor) create_descriptor;
  decltype(&::cudnnBackendDestroyDescriptor) destroy_descriptor;
  decltype(&::cudnnBackendSetAttribute) set;
  decltype(&::cudnnBackendGetAttribute) get;
  decltype(&::cudnnBackendFinalize) finalize;
  decltype(&::cudnnBackendExecute) execute;
};

// Opens the library, which stays loaded to the end of the process, as the driver's state that it made does.
// kUnsupported: where it was looked for, or what it lacks.
Expected<CudnnFunctions> load_cudnn();

Status check_cudnn(const CudnnFunctions& f, cudnnStatus_t status, const std::string& what);

class CudnnDescriptor {
 public:
  CudnnDescriptor() = default;
  static Expected<CudnnDescriptor> create(const CudnnFunctions& f, cudnnBackendDescriptorType_t type);
  CudnnDescriptor(CudnnDescriptor&& other) noexcept
      : f_(other.f_), descriptor_(std::exchange(other.descriptor_, nullptr)) {}
  CudnnDescriptor& operator=(CudnnDescriptor&& other) noexcept {
    std::swap(f_, other.f_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~CudnnDescriptor() {
    if (descriptor_ != nullptr) f_->destroy_descriptor(descriptor_);
  }

  cudnnBackendDescriptor_t get() const { return descriptor_; }
  // After this an error of set() is told by finalise(): a descriptor without an attribute is refused.
  Status set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void* values);
  Status set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value);
  Status finalise(const char* what);

 private:
  CudnnDescriptor(const CudnnFunctions& f, cudnnBackendDescriptor_t descriptor) : f_(&f), descriptor_(descriptor) {}

  const CudnnFunctions* f_ = nullptr;
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

// What a plan is made for: a card that is here, or one by its properties, to learn without it what cuDNN accepts.
struct CudnnTarget {
  cudnnHandle_t handle = nullptr;
  const CudnnDescriptor* properties = nullptr;
};

struct CudnnPlan {
  CudnnDescriptor plan;
  int64_t workspace_bytes = 0;
};

// Names of the operands in a graph.
enum CudnnOperand : int64_t { kCudnnX = 1, kCudnnW, kCudnnOut };

// The first plan of those that cuDNN proposes which needs no more than kConvWorkspaceBytes, sums in one order and
// compiles nothing at run time. Of `c` the shape alone is read. f outlives the plan.
Expected<CudnnPlan> plan_conv(const CudnnFunctions& f, const CudnnTarget& target, const LibraryConv& c);

}  // namespace liveavatar::cuda
