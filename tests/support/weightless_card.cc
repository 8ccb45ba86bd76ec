#include "weightless_card.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "backend/cuda/cuda_backend.h"

namespace liveavatar {
namespace {

constexpr int kOk = 0, kInvalidValue = 1;

template <typename Call>
int nothing(const Call&, void*) {
  return kOk;
}

// Every kernel does nothing.
const cuda::Kernels& no_kernels() {
  static const cuda::Kernels kernels = {nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing,
                                        nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing,
                                        nothing, nothing, nothing, nothing, nothing, nothing, nothing};
  return kernels;
}

// Host memory whose pieces of 16 MiB are all the same 16 MiB.
class RepeatedMemory {
 public:
  RepeatedMemory() : file_(memfd_create("repeated", MFD_CLOEXEC)) {
    LA_CHECK(file_ >= 0 && ftruncate(file_, static_cast<off_t>(kPiece)) == 0);
  }
  ~RepeatedMemory() { ::close(file_); }
  void* map(size_t bytes) const {
    void* base = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return nullptr;
    for (size_t at = 0; at < bytes; at += kPiece) {
      void* piece = mmap(static_cast<std::byte*>(base) + at, std::min(kPiece, bytes - at), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_FIXED, file_, 0);
      LA_CHECK(piece != MAP_FAILED);
    }
    return base;
  }

 private:
  static constexpr size_t kPiece = size_t{16} << 20;
  int file_;
};

class WeightlessRuntime final : public cuda::Runtime {
 public:
  explicit WeightlessRuntime(size_t memory_bytes)
      : card_{.name = "weightless", .compute_capability = 90, .multiprocessors = 1, .memory_bytes = memory_bytes} {}

  const cuda::Card& card() const override { return card_; }
  const cuda::Kernels& kernels() const override { return no_kernels(); }
  std::string error_text(int error) const override { return "error " + std::to_string(error); }

  int allocate(void** memory, size_t bytes) override {
    const std::lock_guard lock(mutex_);
    if (use_.used_bytes + bytes > card_.memory_bytes) return kOutOfMemory;
    *memory = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*memory == MAP_FAILED) return kOutOfMemory;
    pieces_[static_cast<std::byte*>(*memory)] = bytes;
    use_.used_bytes += bytes;
    use_.peak_bytes = std::max(use_.peak_bytes, use_.used_bytes);
    return kOk;
  }
  int release(void* memory) override {
    const std::lock_guard lock(mutex_);
    const auto piece = pieces_.find(static_cast<std::byte*>(memory));
    if (piece == pieces_.end()) return kInvalidValue;
    munmap(memory, piece->second);
    use_.used_bytes -= piece->second;
    pieces_.erase(piece);
    return kOk;
  }
  size_t free_bytes() const override { return card_.memory_bytes - use().used_bytes; }
  int allocate_pinned(void** memory, size_t bytes) override {
    *memory = repeated_.map(bytes);
    const std::lock_guard lock(mutex_);
    pinned_[*memory] = bytes;
    return *memory == nullptr ? kOutOfMemory : kOk;
  }
  int release_pinned(void* memory) override {
    const std::lock_guard lock(mutex_);
    munmap(memory, pinned_.at(memory));
    pinned_.erase(memory);
    return kOk;
  }

  int write(void* to, const void*, size_t bytes) override { return check(to, bytes); }
  int read(const void* from, void* host, size_t bytes) override {
    std::memset(host, 0, bytes);
    return check(from, bytes);
  }
  int create_stream(void** stream) override { return create(stream); }
  int destroy_stream(void*) override { return kOk; }
  int synchronize(void*) override { return kOk; }
  int enqueue_write(void* to, const void*, size_t bytes, void*) override {
    const std::lock_guard lock(mutex_);
    use_.to_card_bytes += bytes;
    return holds(to, bytes) ? kOk : kInvalidValue;
  }
  int enqueue_read(const void* from, void*, size_t bytes, void*) override {
    const std::lock_guard lock(mutex_);
    use_.from_card_bytes += bytes;
    return holds(from, bytes) ? kOk : kInvalidValue;
  }
  int create_event(void** event) override { return create(event); }
  int destroy_event(void*) override { return kOk; }
  int record(void*, void*) override { return kOk; }
  bool is_done(void*) const override { return true; }
  int wait(void*) override { return kOk; }
  int create_timer(void** event) override { return create(event); }
  int elapsed(void*, void*, float*) const override { return kOk; }
  Expected<std::unique_ptr<cuda::LinearLibrary>> open_linear_library() override { return no_library(); }
  Expected<std::unique_ptr<cuda::ConvLibrary>> open_conv_library() override { return no_library(); }
  Expected<std::unique_ptr<cuda::LinkLibrary>> open_link_library() override { return no_library(); }
  int make_current() override { return kOk; }

  CardUse use() const {
    const std::lock_guard lock(mutex_);
    return use_;
  }

 private:
  static Status no_library() { return unsupported("a card that computes nothing has no libraries"); }
  int create(void** handle) {
    *handle = this;
    return kOk;
  }
  int check(const void* address, size_t bytes) {
    const std::lock_guard lock(mutex_);
    return holds(address, bytes) ? kOk : kInvalidValue;
  }
  // Whether a copy stays inside of one allocation.
  bool holds(const void* address, size_t bytes) const {
    const auto* at = static_cast<const std::byte*>(address);
    auto next = pieces_.upper_bound(const_cast<std::byte*>(at));
    if (next == pieces_.begin()) return false;
    const auto& [base, size] = *std::prev(next);
    return at + bytes <= base + size;
  }

  cuda::Card card_;
  RepeatedMemory repeated_;
  mutable std::mutex mutex_;
  std::map<std::byte*, size_t> pieces_;
  std::map<void*, size_t> pinned_;
  CardUse use_;
};

}  // namespace

struct WeightlessCard::Device {
  explicit Device(std::unique_ptr<WeightlessRuntime> r) : runtime(*r), device(std::move(r), 0) {}
  WeightlessRuntime& runtime;
  cuda::CudaDevice device;
};

WeightlessCard::WeightlessCard(size_t memory_bytes)
    : device_(std::make_unique<Device>(std::make_unique<WeightlessRuntime>(memory_bytes))) {}
WeightlessCard::~WeightlessCard() = default;
Allocator& WeightlessCard::allocator() { return device_->device; }
Expected<std::unique_ptr<Backend>> WeightlessCard::open(const BackendOptions& options) {
  return cuda::CudaBackend::open(device_->device, options);
}
CardUse WeightlessCard::use() const { return device_->runtime.use(); }

}  // namespace liveavatar
