// Opened at run time: the program neither links it nor needs it. cublasLt.h gives the types alone.
#include "backend/cuda/libraries/cublaslt.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <vector>

namespace liveavatar::cuda {
namespace {

constexpr uint32_t kAlignment = 16;  // bytes, of every operand

struct Functions {
  decltype(&::cublasLtCreate) create;
  decltype(&::cublasLtDestroy) destroy;
  decltype(&::cublasLtGetVersion) version;
  decltype(&::cublasLtGetStatusString) status_text;
  decltype(&::cublasLtMatmul) matmul;
  decltype(&::cublasLtMatmulDescCreate) create_operation;
  decltype(&::cublasLtMatmulDescDestroy) destroy_operation;
  decltype(&::cublasLtMatmulDescSetAttribute) set_operation;
  decltype(&::cublasLtMatrixLayoutCreate) create_layout;
  decltype(&::cublasLtMatrixLayoutDestroy) destroy_layout;
  decltype(&::cublasLtMatmulPreferenceCreate) create_preference;
  decltype(&::cublasLtMatmulPreferenceDestroy) destroy_preference;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) set_preference;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) choose_algorithm;
};

template <typename F>
bool find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(::dlsym(library, name));
  return function != nullptr;
}

bool find_all(void* library, Functions& f) {
  return find(library, "cublasLtCreate", f.create) && find(library, "cublasLtDestroy", f.destroy) &&
         find(library, "cublasLtGetVersion", f.version) && find(library, "cublasLtGetStatusString", f.status_text) &&
         find(library, "cublasLtMatmul", f.matmul) && find(library, "cublasLtMatmulDescCreate", f.create_operation) &&
         find(library, "cublasLtMatmulDescDestroy", f.destroy_operation) &&
         find(library, "cublasLtMatmulDescSetAttribute", f.set_operation) &&
         find(library, "cublasLtMatrixLayoutCreate", f.create_layout) &&
         find(library, "cublasLtMatrixLayoutDestroy", f.destroy_layout) &&
         find(library, "cublasLtMatmulPreferenceCreate", f.create_preference) &&
         find(library, "cublasLtMatmulPreferenceDestroy", f.destroy_preference) &&
         find(library, "cublasLtMatmulPreferenceSetAttribute", f.set_preference) &&
         find(library, "cublasLtMatmulAlgoGetHeuristic", f.choose_algorithm);
}

template <typename T>
using Owned = std::unique_ptr<T, cublasStatus_t (*)(T*)>;
using Handle = Owned<cublasLtContext>;
using Operation = Owned<cublasLtMatmulDescOpaque_t>;
using Layout = Owned<cublasLtMatrixLayoutOpaque_t>;
using Preference = Owned<cublasLtMatmulPreferenceOpaque_t>;

std::string version_text(size_t version) {  // 130102: 13.1.2
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

cudaDataType_t type_of(ElementType type) { return type == ElementType::kF32 ? CUDA_R_32F : CUDA_R_16BF; }

cublasLtEpilogue_t epilogue_of(const LibraryLinear& c) {
  const bool has_bias = c.bias != nullptr;
  if (c.activation == Activation::kGeluTanh) return has_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
  return has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

// What an algorithm is chosen by.
struct Kind {
  int64_t m, n, k;
  ElementType out;
  cublasLtEpilogue_t epilogue;
  bool residual;
  bool operator==(const Kind&) const = default;
};

// Column-major, as the library has it: out^T [n, m] = w [n, k] x^T [k, m], with w and x^T as they lie in memory.
struct Plan {
  Kind kind;
  Operation operation;
  Layout w, x, out;
  cublasLtMatmulAlgo_t algorithm;
};

class CublasLt final : public LinearLibrary {
 public:
  CublasLt(int device, const Functions& f) : device_(device), f_(f), handle_(nullptr, f.destroy) {}

  Status open() {
    if (const cudaError_t error = cudaSetDevice(device_); error != cudaSuccess)
      return unsupported(std::string("cuBLASLt: ") + cudaGetErrorString(error));
    cublasLtHandle_t handle = nullptr;
    LA_RETURN_IF_ERROR(check(f_.create(&handle), "cublasLtCreate"));
    handle_.reset(handle);
    return {};
  }

  std::string name() const override { return "cuBLASLt " + version_text(f_.version()); }

  Status enqueue(const LibraryLinear& c, void* stream) override {
    cudaSetDevice(device_);  // the current card is one of a thread
    LA_ASSIGN_OR_RETURN(const Plan* plan, plan_of(c));
    LA_RETURN_IF_ERROR(set_bias(*plan, c.bias));
    const float one = 1, beta = c.residual == nullptr ? 0.0f : 1.0f;
    const void* added = c.residual == nullptr ? c.out.data : c.residual;
    return check(f_.matmul(handle_.get(), plan->operation.get(), &one, c.w, plan->w.get(), c.x, plan->x.get(), &beta,
                           added, plan->out.get(), c.out.data, plan->out.get(), &plan->algorithm, c.workspace,
                           kLibraryWorkspaceBytes, static_cast<cudaStream_t>(stream)),
                 "cublasLtMatmul");
  }

 private:
  Status check(cublasStatus_t status, const char* what) const {
    if (status == CUBLAS_STATUS_SUCCESS) return {};
    return unsupported(std::string(what) + ": " + f_.status_text(status));
  }

  Status set_bias(const Plan& plan, const void* bias) const {
    if (bias == nullptr) return {};
    return check(f_.set_operation(plan.operation.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
                 "the bias");
  }

  Expected<const Plan*> plan_of(const LibraryLinear& c) {
    const Kind kind{c.m, c.n, c.k, c.out.type, epilogue_of(c), c.residual != nullptr};
    for (const std::unique_ptr<Plan>& plan : plans_)
      if (plan->kind == kind) return static_cast<const Plan*>(plan.get());
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Plan> plan, make_plan(kind, c.workspace));
    plans_.push_back(std::move(plan));
    return static_cast<const Plan*>(plans_.back().get());
  }

  Expected<std::unique_ptr<Plan>> make_plan(const Kind& kind, const void* workspace) const {
    LA_ASSIGN_OR_RETURN(Operation operation, make_operation(kind.epilogue));
    LA_ASSIGN_OR_RETURN(Layout w, make_layout(CUDA_R_16BF, kind.k, kind.n));
    LA_ASSIGN_OR_RETURN(Layout x, make_layout(CUDA_R_16BF, kind.k, kind.m));
    LA_ASSIGN_OR_RETURN(Layout out, make_layout(type_of(kind.out), kind.n, kind.m));
    auto plan = std::make_unique<Plan>(
        Plan{kind, std::move(operation), std::move(w), std::move(x), std::move(out), cublasLtMatmulAlgo_t{}});
    // The choice depends on this address's alignment: never more than every bias has.
    const bool has_bias = kind.epilogue == CUBLASLT_EPILOGUE_BIAS || kind.epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
    const void* bias = has_bias ? static_cast<const std::byte*>(workspace) + kAlignment : nullptr;
    LA_RETURN_IF_ERROR(set_bias(*plan, bias));
    LA_RETURN_IF_ERROR(choose_algorithm(*plan));
    return plan;
  }

  Expected<Operation> make_operation(cublasLtEpilogue_t epilogue) const {
    cublasLtMatmulDesc_t made = nullptr;
    LA_RETURN_IF_ERROR(check(f_.create_operation(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "an operation"));
    Operation operation(made, f_.destroy_operation);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    LA_RETURN_IF_ERROR(
        check(f_.set_operation(made, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), "an operation"));
    LA_RETURN_IF_ERROR(
        check(f_.set_operation(made, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue), "an epilogue"));
    return operation;
  }

  Expected<Layout> make_layout(cudaDataType_t type, int64_t rows, int64_t columns) const {
    cublasLtMatrixLayout_t made = nullptr;
    LA_RETURN_IF_ERROR(check(
        f_.create_layout(&made, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), rows), "a layout"));
    return Layout(made, f_.destroy_layout);
  }

  Expected<Preference> make_preference() const {
    cublasLtMatmulPreference_t made = nullptr;
    LA_RETURN_IF_ERROR(check(f_.create_preference(&made), "a preference"));
    Preference preference(made, f_.destroy_preference);
    const size_t workspace = kLibraryWorkspaceBytes;
    LA_RETURN_IF_ERROR(
        check(f_.set_preference(made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace),
              "a preference"));
    for (const auto operand : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      LA_RETURN_IF_ERROR(check(f_.set_preference(made, operand, &kAlignment, sizeof kAlignment), "a preference"));
    return preference;
  }

  // The first that the library itself proposes.
  Status choose_algorithm(Plan& plan) const {
    LA_ASSIGN_OR_RETURN(const Preference preference, make_preference());
    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    LA_RETURN_IF_ERROR(check(f_.choose_algorithm(handle_.get(), plan.operation.get(), plan.w.get(), plan.x.get(),
                                                 plan.out.get(), plan.out.get(), preference.get(), 1, &result, &count),
                             "cublasLtMatmulAlgoGetHeuristic"));
    if (count == 0) return unsupported("cuBLASLt has no algorithm for this shape");
    plan.algorithm = result.algo;
    return check(result.state, "cublasLtMatmulAlgoGetHeuristic");
  }

  int device_;
  Functions f_;
  Handle handle_;
  std::vector<std::unique_ptr<Plan>> plans_;
};

// It stays loaded to the end of the process, as the driver's state that it made does.
void* load(std::string& why) {
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
    void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library != nullptr) return library;
    if (why.empty()) why = ::dlerror();
  }
  return nullptr;
}

}  // namespace

Expected<std::unique_ptr<LinearLibrary>> open_cublaslt(int device) {
  std::string why;
  void* library = load(why);
  if (library == nullptr)
    return unsupported("cuBLASLt was not found (" + why +
                       "); install libcublas, or name its folder in LD_LIBRARY_PATH");
  Functions functions{};
  if (!find_all(library, functions))
    return unsupported("cuBLASLt is too old: it lacks functions; install version 12 or 13");
  auto opened = std::make_unique<CublasLt>(device, functions);
  LA_RETURN_IF_ERROR(opened->open());
  return std::unique_ptr<LinearLibrary>(std::move(opened));
}

}  // namespace liveavatar::cuda
