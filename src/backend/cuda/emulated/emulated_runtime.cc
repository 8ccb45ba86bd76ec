#include "backend/cuda/emulated/emulated_runtime.h"

#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>

#include "backend/cuda/emulate/stream.h"

namespace liveavatar::cuda {
namespace {

// The CUDA runtime's numbers.
constexpr int kOk = 0, kLaunchFailure = 719;
constexpr int kNanByte = 0xff;  // a NaN in f32 and bf16
constexpr std::align_val_t kPinnedAlignment{4096};

struct EmulatedEvent {
  emulate::Point point;
  std::shared_ptr<double> at_ms;  // of a timer: when it was reached
};

emulate::Stream& stream_of(void* stream) { return *static_cast<emulate::Stream*>(stream); }
EmulatedEvent& event_of(void* event) { return *static_cast<EmulatedEvent*>(event); }

class EmulatedRuntime final : public Runtime {
 public:
  explicit EmulatedRuntime(const EmulatedCard& card)
      : card_{"emulated device", 90, 1, card.memory_bytes, card.driver, card.slot},
        stream_seed_(card.stream_seed),
        linear_library_(card.linear_library),
        conv_library_(card.conv_library),
        link_library_(card.link_library) {
    const std::lock_guard lock(emulate::device_lock());
    emulate::protect_from_host(true);
  }

  const Card& card() const override { return card_; }
  const Kernels& kernels() const override { return emulated::kernels(); }
  std::string error_text(int error) const override {
    if (error == kOutOfMemory) return "out of memory";
    const std::lock_guard lock(emulate::device_lock());
    return fault_;
  }

  int allocate(void** memory, size_t bytes) override {
    const std::lock_guard lock(emulate::device_lock());
    if (bytes > free_bytes()) return kOutOfMemory;
    *memory = emulate::allocate(bytes);
    emulate::poison(*memory, kNanByte, bytes);
    allocated_[*memory] = bytes;
    used_bytes_ += bytes;
    return kOk;
  }
  int release(void* memory) override {
    return guarded([&] {
      emulate::run_all();
      used_bytes_ -= allocated_.at(memory);
      allocated_.erase(memory);
      emulate::release(memory);
    });
  }
  size_t free_bytes() const override {
    const std::lock_guard lock(emulate::device_lock());
    return card_.memory_bytes - used_bytes_;
  }
  int allocate_pinned(void** memory, size_t bytes) override {
    *memory = ::operator new(bytes, kPinnedAlignment, std::nothrow);
    return *memory == nullptr ? kOutOfMemory : kOk;
  }
  int release_pinned(void* memory) override {
    ::operator delete(memory, kPinnedAlignment);
    return kOk;
  }

  int write(void* to, const void* host, size_t bytes) override {
    return guarded([&] { emulate::copy_to_device(to, host, bytes); });
  }
  int read(const void* from, void* host, size_t bytes) override {
    return guarded([&] { emulate::copy_to_host(host, from, bytes); });
  }

  int create_stream(void** stream) override {
    const std::lock_guard lock(emulate::device_lock());
    *stream = new emulate::Stream;
    return kOk;
  }
  int destroy_stream(void* stream) override {
    const std::lock_guard lock(emulate::device_lock());
    delete &stream_of(stream);
    return kOk;
  }
  int synchronize(void* stream) override {
    return guarded([&] { run(stream_of(stream).now()); });
  }
  int enqueue_write(void* to, const void* pinned, size_t bytes, void* stream) override {
    stream_of(stream).add([=] { emulate::copy_to_device(to, pinned, bytes); });
    return kOk;
  }
  int enqueue_read(const void* from, void* pinned, size_t bytes, void* stream) override {
    stream_of(stream).add([=] { emulate::copy_to_host(pinned, from, bytes); });
    return kOk;
  }

  int create_event(void** event) override {
    *event = new EmulatedEvent;
    return kOk;
  }
  int destroy_event(void* event) override {
    delete &event_of(event);
    return kOk;
  }
  int record(void* event, void* stream) override {
    const std::lock_guard lock(emulate::device_lock());
    emulate::Stream& s = stream_of(stream);
    if (event_of(event).at_ms) s.add([&s, at = event_of(event).at_ms] { *at = s.clock_ms(); });
    event_of(event).point = s.now();
    return kOk;
  }
  bool is_done(void* event) const override {
    const std::lock_guard lock(emulate::device_lock());
    return emulate::is_done(event_of(event).point);
  }
  int wait(void* event) override {
    return guarded([&] { run(event_of(event).point); });
  }
  int create_timer(void** event) override {
    *event = new EmulatedEvent{{}, std::make_shared<double>(0)};
    return kOk;
  }
  int elapsed(void* start, void* end, float* milliseconds) const override {
    *milliseconds = static_cast<float>(*event_of(end).at_ms - *event_of(start).at_ms);
    return kOk;
  }

  Expected<std::unique_ptr<LinearLibrary>> open_linear_library() override {
    if (!linear_library_) return unsupported("the emulated device has none");
    return linear_library_();
  }
  Expected<std::unique_ptr<ConvLibrary>> open_conv_library() override {
    if (!conv_library_) return unsupported("the emulated device has none");
    return conv_library_();
  }
  Expected<std::unique_ptr<LinkLibrary>> open_link_library() override {
    if (!link_library_) return unsupported("the emulated device has none");
    return link_library_();
  }
  int make_current() override { return kOk; }

 private:
  void run(const emulate::Point& point) {
    emulate::stream_seed = stream_seed_;
    emulate::run_until(point);
  }

  // After a kernel's Fault nothing is done any more, as on a card.
  template <typename Work>
  int guarded(Work&& work) {
    const std::lock_guard lock(emulate::device_lock());
    if (!fault_.empty()) return kLaunchFailure;
    try {
      work();
    } catch (const emulate::Fault& fault) {
      fault_ = fault.what();
      return kLaunchFailure;
    }
    return kOk;
  }

  Card card_;
  uint32_t stream_seed_;
  std::function<std::unique_ptr<LinearLibrary>()> linear_library_;
  std::function<std::unique_ptr<ConvLibrary>()> conv_library_;
  std::function<std::unique_ptr<LinkLibrary>()> link_library_;
  std::map<void*, size_t> allocated_;
  size_t used_bytes_ = 0;
  std::string fault_;
};

}  // namespace

std::unique_ptr<Runtime> make_emulated_runtime(const EmulatedCard& card) {
  return std::make_unique<EmulatedRuntime>(card);
}

}  // namespace liveavatar::cuda
