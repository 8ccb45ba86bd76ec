#include "backend/cuda/libraries/cudnn_graph.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <vector>

namespace liveavatar::cuda {
namespace {

constexpr int64_t kAlignment = 16;  // bytes, of every operand
constexpr int64_t kMostConfigs = 64;

template <typename F>
bool find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(::dlsym(library, name));
  return function != nullptr;
}

bool find_all(void* library, CudnnFunctions& f) {
  return find(library, "cudnnCreate", f.create) && find(library, "cudnnDestroy", f.destroy) &&
         find(library, "cudnnSetStream", f.set_stream) && find(library, "cudnnGetVersion", f.version) &&
         find(library, "cudnnGetErrorString", f.status_text) &&
         find(library, "cudnnBackendCreateDescriptor", f.create_descriptor) &&
         find(library, "cudnnBackendDestroyDescriptor", f.destroy_descriptor) &&
         find(library, "cudnnBackendSetAttribute", f.set) && find(library, "cudnnBackendGetAttribute", f.get) &&
         find(library, "cudnnBackendFinalize", f.finalize) && find(library, "cudnnBackendExecute", f.execute);
}

// Batch, channels, frames, rows, columns.
using Dimensions = std::array<int64_t, 5>;

// Of channels last, in the order of Dimensions.
Dimensions channels_last_strides(const Dimensions& d) {
  const auto& [batch, channels, frames, rows, columns] = d;
  return {channels * frames * rows * columns, 1, channels * rows * columns, channels * columns, channels};
}

Expected<CudnnDescriptor> make_tensor(const CudnnFunctions& f, CudnnOperand operand, const Dimensions& dimensions) {
  LA_ASSIGN_OR_RETURN(CudnnDescriptor tensor, CudnnDescriptor::create(f, CUDNN_BACKEND_TENSOR_DESCRIPTOR));
  const cudnnDataType_t type = CUDNN_DATA_BFLOAT16;
  const Dimensions strides = channels_last_strides(dimensions);
  const int64_t name = operand, rank = std::ssize(dimensions);
  LA_RETURN_IF_ERROR(tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
  LA_RETURN_IF_ERROR(tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, rank, dimensions.data()));
  LA_RETURN_IF_ERROR(tensor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, rank, strides.data()));
  LA_RETURN_IF_ERROR(tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &name));
  LA_RETURN_IF_ERROR(tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &kAlignment));
  LA_RETURN_IF_ERROR(tensor.finalise("a tensor"));
  return tensor;
}

// The window: as cross-correlation, without padding in time.
Expected<CudnnDescriptor> make_window(const CudnnFunctions& f, const LibraryConv& c) {
  LA_ASSIGN_OR_RETURN(CudnnDescriptor window, CudnnDescriptor::create(f, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR));
  const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  const int64_t rank = 3, ones[3] = {1, 1, 1}, padding[3] = {0, c.kernel[1] / 2, c.kernel[2] / 2};
  LA_RETURN_IF_ERROR(window.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums));
  LA_RETURN_IF_ERROR(window.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode));
  LA_RETURN_IF_ERROR(window.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &rank));
  for (const auto name : {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_ATTR_CONVOLUTION_DILATIONS})
    LA_RETURN_IF_ERROR(window.set(name, CUDNN_TYPE_INT64, rank, ones));
  for (const auto name : {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS})
    LA_RETURN_IF_ERROR(window.set(name, CUDNN_TYPE_INT64, rank, padding));
  LA_RETURN_IF_ERROR(window.finalise("a window"));
  return window;
}

Expected<CudnnDescriptor> make_operation(const CudnnFunctions& f, const LibraryConv& c) {
  LA_ASSIGN_OR_RETURN(const CudnnDescriptor x,
                      make_tensor(f, kCudnnX, {1, c.in_channels, c.frames, c.rows, c.columns}));
  LA_ASSIGN_OR_RETURN(const CudnnDescriptor w,
                      make_tensor(f, kCudnnW, {c.out_channels, c.in_channels, c.kernel[0], c.kernel[1], c.kernel[2]}));
  LA_ASSIGN_OR_RETURN(const CudnnDescriptor out,
                      make_tensor(f, kCudnnOut, {1, c.out_channels, c.frames - c.kernel[0] + 1, c.rows, c.columns}));
  LA_ASSIGN_OR_RETURN(const CudnnDescriptor window, make_window(f, c));
  LA_ASSIGN_OR_RETURN(CudnnDescriptor operation,
                      CudnnDescriptor::create(f, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR));
  const float one = 1, beta = c.adds ? 1.0f : 0.0f;
  LA_RETURN_IF_ERROR(operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x));
  LA_RETURN_IF_ERROR(operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w));
  LA_RETURN_IF_ERROR(operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, out));
  LA_RETURN_IF_ERROR(operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, window));
  LA_RETURN_IF_ERROR(operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one));
  LA_RETURN_IF_ERROR(operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &beta));
  LA_RETURN_IF_ERROR(operation.finalise("a convolution"));
  return operation;
}

Expected<CudnnDescriptor> make_graph(const CudnnFunctions& f, const CudnnTarget& target, const LibraryConv& c) {
  LA_ASSIGN_OR_RETURN(const CudnnDescriptor operation, make_operation(f, c));
  LA_ASSIGN_OR_RETURN(CudnnDescriptor graph, CudnnDescriptor::create(f, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR));
  LA_RETURN_IF_ERROR(graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation));
  if (target.handle != nullptr)
    LA_RETURN_IF_ERROR(graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle));
  LA_RETURN_IF_ERROR(graph.finalise("a graph"));
  return graph;
}

// What cuDNN proposes, the best first.
Expected<std::vector<CudnnDescriptor>> propose(const CudnnFunctions& f, const CudnnTarget& target,
                                               const CudnnDescriptor& graph, cudnnBackendHeurMode_t mode) {
  LA_ASSIGN_OR_RETURN(CudnnDescriptor heuristics, CudnnDescriptor::create(f, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR));
  LA_RETURN_IF_ERROR(heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph));
  LA_RETURN_IF_ERROR(heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
  if (target.properties != nullptr)
    LA_RETURN_IF_ERROR(heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.properties));
  LA_RETURN_IF_ERROR(heuristics.finalise("heuristics"));
  std::vector<CudnnDescriptor> configs;
  std::array<cudnnBackendDescriptor_t, kMostConfigs> raw{};
  for (cudnnBackendDescriptor_t& config : raw) {
    LA_ASSIGN_OR_RETURN(CudnnDescriptor made, CudnnDescriptor::create(f, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
    config = made.get();
    configs.push_back(std::move(made));
  }
  int64_t count = 0;
  LA_RETURN_IF_ERROR(check_cudnn(f,
                                 f.get(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                       kMostConfigs, &count, raw.data()),
                                 "heuristics"));
  configs.resize(static_cast<size_t>(std::clamp<int64_t>(count, 0, kMostConfigs)));
  return configs;
}

template <typename Note, size_t kCount>
bool has_note(const CudnnFunctions& f, const CudnnDescriptor& engine, cudnnBackendAttributeName_t name,
              cudnnBackendAttributeType_t type, Note wanted) {
  std::array<Note, kCount> notes{};
  int64_t count = 0;
  if (f.get(engine.get(), name, type, int64_t{kCount}, &count, notes.data()) != CUDNN_STATUS_SUCCESS) return true;
  const auto end = notes.begin() + std::clamp<int64_t>(count, 0, int64_t{kCount});
  return std::find(notes.begin(), end, wanted) != end;
}

// Whether its sums are in one order, and its kernels were compiled with the library. Where it does not say, it is not.
bool is_steady(const CudnnFunctions& f, const CudnnDescriptor& config) {
  const Expected<CudnnDescriptor> engine = CudnnDescriptor::create(f, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  if (!engine.ok()) return false;
  cudnnBackendDescriptor_t raw = engine->get();
  int64_t count = 0;
  const cudnnStatus_t got =
      f.get(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &raw);
  if (got != CUDNN_STATUS_SUCCESS || count != 1) return false;
  return !has_note<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT>(
             f, *engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
             CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) &&
         !has_note<cudnnBackendBehaviorNote_t, CUDNN_BEHAVIOR_NOTE_TYPE_COUNT>(
             f, *engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
             CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION);
}

Expected<CudnnPlan> make_plan(const CudnnFunctions& f, const CudnnTarget& target, const CudnnDescriptor& config) {
  CudnnPlan made;
  LA_ASSIGN_OR_RETURN(made.plan, CudnnDescriptor::create(f, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR));
  LA_RETURN_IF_ERROR(made.plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config));
  if (target.handle != nullptr)
    LA_RETURN_IF_ERROR(made.plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle));
  if (target.properties != nullptr)
    LA_RETURN_IF_ERROR(made.plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.properties));
  LA_RETURN_IF_ERROR(made.plan.finalise("a plan"));
  int64_t count = 0;
  LA_RETURN_IF_ERROR(check_cudnn(f,
                                 f.get(made.plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                       &count, &made.workspace_bytes),
                                 "a plan's workspace"));
  return made;
}

}  // namespace

Expected<CudnnFunctions> load_cudnn() {
  void* library = ::dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr)
    return unsupported(std::string("cuDNN was not found (") + ::dlerror() +
                       "); install libcudnn9, or name its folder in LD_LIBRARY_PATH");
  CudnnFunctions f{};
  if (!find_all(library, f)) return unsupported("cuDNN lacks functions; install version 9");
  return f;
}

Status check_cudnn(const CudnnFunctions& f, cudnnStatus_t status, const std::string& what) {
  if (status == CUDNN_STATUS_SUCCESS) return {};
  return unsupported("cuDNN, " + what + ": " + f.status_text(status));
}

Expected<CudnnDescriptor> CudnnDescriptor::create(const CudnnFunctions& f, cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t made = nullptr;
  LA_RETURN_IF_ERROR(check_cudnn(f, f.create_descriptor(type, &made), "a descriptor"));
  return CudnnDescriptor(f, made);
}

Status CudnnDescriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                            const void* values) {
  return check_cudnn(*f_, f_->set(descriptor_, name, type, count, values), "attribute " + std::to_string(name));
}

Status CudnnDescriptor::set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value) {
  const cudnnBackendDescriptor_t raw = value.get();
  return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &raw);
}

Status CudnnDescriptor::finalise(const char* what) { return check_cudnn(*f_, f_->finalize(descriptor_), what); }

Expected<CudnnPlan> plan_conv(const CudnnFunctions& f, const CudnnTarget& target, const LibraryConv& c) {
  LA_ASSIGN_OR_RETURN(const CudnnDescriptor graph, make_graph(f, target, c));
  Status why = unsupported("cuDNN has no algorithm for this shape");
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    const Expected<std::vector<CudnnDescriptor>> configs = propose(f, target, graph, mode);
    if (!configs.ok()) {
      why = configs.status();
      continue;
    }
    for (const CudnnDescriptor& config : *configs) {
      if (!is_steady(f, config)) continue;
      Expected<CudnnPlan> plan = make_plan(f, target, config);
      if (!plan.ok()) {
        why = plan.status();
      } else if (plan->workspace_bytes <= static_cast<int64_t>(kConvWorkspaceBytes)) {
        return plan;
      }
    }
  }
  return why;
}

}  // namespace liveavatar::cuda
