// Over the CUDA runtime, which is linked statically and opens the driver itself: one program runs with and without a
// card.
#include "backend/cuda/card/card_runtime.h"

#include <cuda_runtime_api.h>

#include <string>

#include "backend/cuda/libraries/cublaslt.h"
#include "backend/cuda/libraries/cudnn.h"
#include "backend/cuda/libraries/nccl.h"

namespace liveavatar::cuda {
namespace {

constexpr int kLeastCapability = 80;  // bf16 tensor cores and asynchronous copies

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t event_of(void* event) { return static_cast<cudaEvent_t>(event); }

std::string version_text(int version) {  // 12040: 12.4
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Why cudaGetDeviceCount failed.
Status explain(cudaError_t error) {
  const std::string reason = cudaGetErrorString(error);
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0)
    return unsupported("no NVIDIA driver was found; install one for CUDA " + version_text(CUDART_VERSION) +
                       " or later, or choose another `device`");
  if (error == cudaErrorInsufficientDriver || error == cudaErrorCallRequiresNewerDriver) {
    return unsupported("the NVIDIA driver is for CUDA " + version_text(driver) + ", this program needs CUDA " +
                       version_text(CUDART_VERSION) + " or later; update the driver, or choose another `device`");
  }
  return unsupported("no usable NVIDIA card (" + reason + "); see nvidia-smi, or choose another `device`");
}

// The current card is one of a thread: every call names it.
class CardRuntime final : public Runtime {
 public:
  CardRuntime(int index, Card card) : index_(index), card_(std::move(card)) {}
  ~CardRuntime() override {
    if (copies_ != nullptr) destroy_stream(copies_);
  }
  // A stream of its own for copies that wait for nobody's work.
  int open() { return create_stream(&copies_); }

  const Card& card() const override { return card_; }
  const Kernels& kernels() const override { return on_card::kernels(); }
  std::string error_text(int error) const override {
    const auto code = static_cast<cudaError_t>(error);
    return std::string(cudaGetErrorString(code)) + " (" + cudaGetErrorName(code) + ")";
  }

  int allocate(void** memory, size_t bytes) override {
    return here([&] { return cudaMalloc(memory, bytes); });
  }
  int release(void* memory) override {
    return here([&] { return cudaFree(memory); });
  }
  size_t free_bytes() const override {
    size_t free = 0, total = 0;
    const int error = here([&] { return cudaMemGetInfo(&free, &total); });
    return error == cudaSuccess ? free : 0;
  }
  int allocate_pinned(void** memory, size_t bytes) override {
    return here([&] { return cudaHostAlloc(memory, bytes, cudaHostAllocPortable); });
  }
  int release_pinned(void* memory) override {
    return here([&] { return cudaFreeHost(memory); });
  }

  int write(void* to, const void* host, size_t bytes) override {
    return copy_now(to, host, bytes, cudaMemcpyHostToDevice);
  }
  int read(const void* from, void* host, size_t bytes) override {
    return copy_now(host, from, bytes, cudaMemcpyDeviceToHost);
  }

  int create_stream(void** stream) override {
    return here(
        [&] { return cudaStreamCreateWithFlags(reinterpret_cast<cudaStream_t*>(stream), cudaStreamNonBlocking); });
  }
  int destroy_stream(void* stream) override {
    return here([&] { return cudaStreamDestroy(stream_of(stream)); });
  }
  int synchronize(void* stream) override {
    return here([&] { return cudaStreamSynchronize(stream_of(stream)); });
  }
  int enqueue_write(void* to, const void* pinned, size_t bytes, void* stream) override {
    return enqueue(to, pinned, bytes, cudaMemcpyHostToDevice, stream);
  }
  int enqueue_read(const void* from, void* pinned, size_t bytes, void* stream) override {
    return enqueue(pinned, from, bytes, cudaMemcpyDeviceToHost, stream);
  }

  int create_event(void** event) override {
    return here(
        [&] { return cudaEventCreateWithFlags(reinterpret_cast<cudaEvent_t*>(event), cudaEventDisableTiming); });
  }
  int destroy_event(void* event) override {
    return here([&] { return cudaEventDestroy(event_of(event)); });
  }
  int record(void* event, void* stream) override {
    return here([&] { return cudaEventRecord(event_of(event), stream_of(stream)); });
  }
  bool is_done(void* event) const override {
    return here([&] { return cudaEventQuery(event_of(event)); }) == cudaSuccess;
  }
  int wait(void* event) override {
    return here([&] { return cudaEventSynchronize(event_of(event)); });
  }
  int create_timer(void** event) override {
    return here([&] { return cudaEventCreate(reinterpret_cast<cudaEvent_t*>(event)); });
  }
  int elapsed(void* start, void* end, float* milliseconds) const override {
    return here([&] { return cudaEventElapsedTime(milliseconds, event_of(start), event_of(end)); });
  }

  Expected<std::unique_ptr<LinearLibrary>> open_linear_library() override { return open_cublaslt(index_); }
  Expected<std::unique_ptr<ConvLibrary>> open_conv_library() override { return open_cudnn(index_); }
  Expected<std::unique_ptr<LinkLibrary>> open_link_library() override { return open_nccl(); }
  int make_current() override {
    return here([] { return cudaSuccess; });
  }

 private:
  template <typename Call>
  int here(const Call& call) const {
    cudaError_t error = cudaSetDevice(index_);
    if (error == cudaSuccess) error = static_cast<cudaError_t>(call());
    // Else the thread's next launch would say it: also that work is not done yet, or that memory is short.
    if (error != cudaSuccess) cudaGetLastError();
    return error;
  }
  int enqueue(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, void* stream) {
    return here([&] { return cudaMemcpyAsync(to, from, bytes, kind, stream_of(stream)); });
  }
  int copy_now(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    const int error = enqueue(to, from, bytes, kind, copies_);
    return error == 0 ? synchronize(copies_) : error;
  }

  int index_;
  Card card_;
  void* copies_ = nullptr;
};

Expected<Card> describe(int index) {
  cudaDeviceProp p{};
  const cudaError_t error = cudaGetDeviceProperties(&p, index);
  if (error != cudaSuccess) return explain(error);
  int driver = 0;
  cudaDriverGetVersion(&driver);
  char slot[32] = "";
  cudaDeviceGetPCIBusId(slot, sizeof slot, index);
  return Card{p.name, p.major * 10 + p.minor, p.multiProcessorCount, p.totalGlobalMem, version_text(driver), slot};
}

}  // namespace

Expected<std::vector<Card>> find_cards() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return explain(error);
  if (count == 0) return unsupported("no NVIDIA card was found; see nvidia-smi, or choose another `device`");
  std::vector<Card> cards;
  for (int i = 0; i < count; ++i) {
    LA_ASSIGN_OR_RETURN(Card card, describe(i));
    cards.push_back(std::move(card));
  }
  return cards;
}

Expected<std::unique_ptr<Runtime>> open_card(int index) {
  LA_ASSIGN_OR_RETURN(std::vector<Card> cards, find_cards());
  const int count = static_cast<int>(cards.size());
  if (index < 0 || index >= count) {
    return not_found("there is no card " + std::to_string(index) + "; choose `device` cuda:0" +
                     (count == 1 ? "" : " to cuda:" + std::to_string(count - 1)));
  }
  Card& card = cards[static_cast<size_t>(index)];
  if (card.compute_capability < kLeastCapability) {
    return unsupported(card.name + " (compute capability " + std::to_string(card.compute_capability / 10) + "." +
                       std::to_string(card.compute_capability % 10) +
                       ") is too old: 8.0 is needed, GeForce RTX 30 or later; choose another `device`");
  }
  auto runtime = std::make_unique<CardRuntime>(index, std::move(card));
  const int error = runtime->open();
  if (error != 0) return io_error("cuda:" + std::to_string(index) + ": " + runtime->error_text(error));
  return std::unique_ptr<Runtime>(std::move(runtime));
}

}  // namespace liveavatar::cuda
