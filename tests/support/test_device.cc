#include "test_device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "ops/make_backend.h"

namespace liveavatar {
namespace {

constexpr Device kTestDevice{Device::Kind::kTest, 0};
constexpr int kNanByte = 0xff;  // a NaN in f32 and bf16

// Closures in order on a thread of their own, after random delays.
class Queue {
 public:
  explicit Queue(const TestDeviceOptions& options) : options_(options), random_(options.seed) {
    thread_ = std::thread([this] { run(); });
  }
  ~Queue() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    given_.notify_all();
    thread_.join();
  }

  void give(std::function<void()> work) {
    {
      std::lock_guard lock(mutex_);
      work_.push_back(std::move(work));
      ++given_count_;
    }
    given_.notify_all();
  }
  uint64_t given() {
    std::lock_guard lock(mutex_);
    return given_count_;
  }
  void wait(uint64_t count) {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return done_count_ >= count; });
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      given_.wait(lock, [this] { return stop_ || !work_.empty(); });
      if (work_.empty()) return;
      std::function<void()> work = std::move(work_.front());
      work_.pop_front();
      lock.unlock();
      delay();
      work();
      work = nullptr;
      lock.lock();
      ++done_count_;
      done_.notify_all();
    }
  }
  void delay() {
    bool late = options_.most_delay_us > 0 && random_() % 8 == 0;
    if (late) std::this_thread::sleep_for(std::chrono::microseconds(random_() % uint64_t(options_.most_delay_us)));
  }

  TestDeviceOptions options_;
  std::mt19937_64 random_;
  std::mutex mutex_;
  std::condition_variable given_, done_;
  std::deque<std::function<void()>> work_;
  uint64_t given_count_ = 0, done_count_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace

// Every piece is mapped twice: at its address without any rights, and elsewhere for the ops.
class TestDevice::Memory : public Allocator {
 public:
  explicit Memory(const TestDeviceOptions& options) : queue_(options) {}
  Queue& queue() { return queue_; }

  Device device() const override { return kTestDevice; }

  Expected<std::byte*> allocate(size_t bytes) override {
    int file = memfd_create("test device", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0)
      return out_of_memory("no memory for a test device");
    void* inside = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    void* outside = mmap(nullptr, bytes, PROT_NONE, MAP_SHARED, file, 0);
    ::close(file);
    LA_CHECK(inside != MAP_FAILED && outside != MAP_FAILED);
    std::memset(inside, kNanByte, bytes);
    std::lock_guard lock(mutex_);
    auto* address = static_cast<std::byte*>(outside);
    pieces_[address] = {static_cast<std::byte*>(inside), bytes};
    return address;
  }

  void free(std::byte* memory, size_t bytes) override {
    queue_.wait(queue_.given());
    std::lock_guard lock(mutex_);
    auto piece = pieces_.find(memory);
    LA_CHECK(piece != pieces_.end() && piece->second.bytes == bytes);
    std::memset(piece->second.inside, kNanByte, bytes);
    munmap(piece->second.inside, bytes);
    munmap(memory, bytes);
    pieces_.erase(piece);
  }

  Status write(std::byte* to, const void* host, size_t bytes) override {
    std::memcpy(inside(to, bytes), host, bytes);
    return {};
  }
  Status read(const std::byte* from, void* host, size_t bytes) override {
    std::memcpy(host, inside(from, bytes), bytes);
    return {};
  }

  // The storage behind an address. An address outside all allocations is a bug.
  std::byte* inside(const void* address, size_t bytes) const {
    const auto* at = static_cast<const std::byte*>(address);
    std::lock_guard lock(mutex_);
    auto piece = pieces_.upper_bound(const_cast<std::byte*>(at));
    LA_CHECK(piece != pieces_.begin());
    --piece;
    size_t offset = static_cast<size_t>(at - piece->first);
    LA_CHECK(offset + bytes <= piece->second.bytes);
    return piece->second.inside + offset;
  }

 private:
  struct Piece {
    std::byte* inside = nullptr;
    size_t bytes = 0;
  };
  mutable std::mutex mutex_;
  std::map<std::byte*, Piece> pieces_;
  Queue queue_;
};

namespace {

// The reference backend behind a queue. Operands are looked up when an op is given: their memory may be freed only when
// it is done.
template <typename Memory>
class TestBackend : public Backend {
 public:
  TestBackend(Memory& memory, std::unique_ptr<Backend> plain) : memory_(memory), plain_(std::move(plain)) {}
  ~TestBackend() override { memory_.queue().wait(memory_.queue().given()); }

  std::string name() const override { return "test"; }
  std::string describe() const override { return "the reference backend as a device of its own"; }
  int threads() const override { return plain_->threads(); }
  bool rows_are_independent() const override { return plain_->rows_are_independent(); }
  bool int8_products() const override { return false; }
  Allocator& allocator() const override { return memory_; }

  Event record() override { return {memory_.queue().given()}; }
  void wait(Event event) override { memory_.queue().wait(event.ticket); }
  Status synchronize() override {
    wait(record());
    return {};
  }
  void upload(const void* host, const Tensor& to) override {
    const auto* bytes = static_cast<const std::byte*>(host);
    give([copy = std::vector<std::byte>(bytes, bytes + to.bytes()), to = in(to)] {
      std::memcpy(to.address(), copy.data(), copy.size());
    });
  }
  void download(const Tensor& from, void* host) override {
    wait(record());
    std::memcpy(host, in(from).address(), from.bytes());
  }

  Status reserve(const LargestOps& largest) override { return plain_->reserve(largest); }
  void release_scratch() override { plain_->release_scratch(); }
  std::string packing() const override { return plain_->packing(); }
  size_t packed_linear_bytes(int64_t n, int64_t k, DType dtype) const override {
    return plain_->packed_linear_bytes(n, k, dtype);
  }
  void pack_linear(const Tensor& weight, DType dtype, void* target) const override {
    plain_->pack_linear(weight, dtype, target);
  }
  void pack_prequantised(const Tensor& quantised, std::span<const float> scales, void* target) const override {
    plain_->pack_prequantised(quantised, scales, target);
  }
  size_t packed_conv_bytes(const ConvWeight& shape) const override { return plain_->packed_conv_bytes(shape); }
  void pack_conv(const Tensor& weight, const ConvWeight& shape, void* target) const override {
    plain_->pack_conv(weight, shape, target);
  }

  void linear(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e) override {
    give([=, this, x = in(x), w = in(w), out = in(out), e = in(e)] { plain_->linear(x, w, out, e); });
  }
  void conv(const Tensor& x, const ConvWeight& w, const ConvGeometry& g, const Tensor& out,
            const Epilogue& e) override {
    ConvGeometry geometry = g;
    geometry.history = in(g.history);
    give([=, this, x = in(x), w = in(w), out = in(out), e = in(e)] { plain_->conv(x, w, geometry, out, e); });
  }
  void attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                 const Tensor& out) override {
    std::vector<KeyValues> inside;
    for (const KeyValues& s : segments) inside.push_back({in(s.k), in(s.v), in(s.k_scale), in(s.v_scale)});
    AttentionSpec how = spec;
    how.bias = in(spec.bias);
    give([=, this, q = in(q), out = in(out)] { plain_->attention(q, inside, how, out); });
  }
  void layer_norm(const Tensor& x, float eps, const Tensor& weight, const Tensor& bias, const Modulation& m,
                  const Tensor& out) override {
    const Modulation inside{in(m.shift), in(m.scale)};
    give([=, this, x = in(x), weight = in(weight), bias = in(bias), out = in(out)] {
      plain_->layer_norm(x, eps, weight, bias, inside, out);
    });
  }
  void rms_norm(const Tensor& x, float eps, const Tensor& gain, const Tensor& out) override {
    give([=, this, x = in(x), gain = in(gain), out = in(out)] { plain_->rms_norm(x, eps, gain, out); });
  }
  void channel_norm(const Tensor& x, const Tensor& gain, Activation activation, const Tensor& out) override {
    give([=, this, x = in(x), gain = in(gain), out = in(out)] { plain_->channel_norm(x, gain, activation, out); });
  }
  void rope(const Tensor& x, const Tensor& cos_sin, int64_t heads, const Tensor& out) override {
    give([=, this, x = in(x), cos_sin = in(cos_sin), out = in(out)] { plain_->rope(x, cos_sin, heads, out); });
  }
  void patchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) override {
    give([=, this, x = in(x), out = in(out)] { plain_->patchify(x, patch, out); });
  }
  void unpatchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) override {
    give([=, this, x = in(x), out = in(out)] { plain_->unpatchify(x, patch, out); });
  }
  void channels_last(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) override {
    give([=, this, x = in(x), scale = in(scale), shift = in(shift), out = in(out)] {
      plain_->channels_last(x, scale, shift, out);
    });
  }
  void channels_first(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) override {
    give([=, this, x = in(x), scale = in(scale), shift = in(shift), out = in(out)] {
      plain_->channels_first(x, scale, shift, out);
    });
  }
  void add(const Tensor& x, const Tensor& y, float y_factor, const Tensor& out) override {
    give([=, this, x = in(x), y = in(y), out = in(out)] { plain_->add(x, y, y_factor, out); });
  }
  void multiply(const Tensor& x, const Tensor& y, const Tensor& out) override {
    give([=, this, x = in(x), y = in(y), out = in(out)] { plain_->multiply(x, y, out); });
  }
  void activate(const Tensor& x, Activation activation, const Tensor& out) override {
    give([=, this, x = in(x), out = in(out)] { plain_->activate(x, activation, out); });
  }
  void copy(const Tensor& x, const Tensor& out) override {
    give([=, this, x = in(x), out = in(out)] { plain_->copy(x, out); });
  }
  void copy_rows(const StridedRows& x, const StridedRows& out, int64_t rows, int64_t columns) override {
    const StridedRows from{in(x.tensor), x.first, x.stride}, to{in(out.tensor), out.first, out.stride};
    give([=, this] { plain_->copy_rows(from, to, rows, columns); });
  }
  void fill(const Tensor& out, float value) override {
    give([=, this, out = in(out)] { plain_->fill(out, value); });
  }
  void clamp(const Tensor& x, float low, float high, const Tensor& out) override {
    give([=, this, x = in(x), out = in(out)] { plain_->clamp(x, low, high, out); });
  }
  void to_rgb8(const Tensor& x, const Tensor& out) override {
    give([=, this, x = in(x), out = in(out)] { plain_->to_rgb8(x, out); });
  }
  void repeat_columns(const Tensor& x, const Tensor& out) override {
    give([=, this, x = in(x), out = in(out)] { plain_->repeat_columns(x, out); });
  }
  void relative_bias(const Tensor& line, const Tensor& out) override {
    give([=, this, line = in(line), out = in(out)] { plain_->relative_bias(line, out); });
  }
  void quantise(const Tensor& x, const Tensor& out, const Tensor& scale) override {
    give([=, this, x = in(x), out = in(out), scale = in(scale)] { plain_->quantise(x, out, scale); });
  }
  void dequantise(const Tensor& x, const Tensor& scale, const Tensor& out) override {
    give([=, this, x = in(x), scale = in(scale), out = in(out)] { plain_->dequantise(x, scale, out); });
  }

 private:
  void give(std::function<void()> work) { memory_.queue().give(std::move(work)); }

  Tensor in(const Tensor& t) const {
    if (t.empty()) return t;
    LA_CHECK(t.device == kTestDevice);
    return {memory_.inside(t.address(), t.bytes()), t.shape, t.dtype};
  }
  LinearWeight in(const LinearWeight& w) const {
    LinearWeight inside = w;
    inside.data = memory_.inside(w.data, plain_->packed_linear_bytes(w.n, w.k, w.dtype));
    inside.bias = in(w.bias);
    return inside;
  }
  ConvWeight in(const ConvWeight& w) const {
    ConvWeight inside = w;
    inside.data = memory_.inside(w.data, plain_->packed_conv_bytes(w));
    inside.bias = in(w.bias);
    return inside;
  }
  Epilogue in(const Epilogue& e) const { return {e.activation, in(e.gate), in(e.residual)}; }

  Memory& memory_;
  std::unique_ptr<Backend> plain_;
};

}  // namespace

TestDevice::TestDevice(const TestDeviceOptions& options)
    : options_(options), memory_(std::make_unique<Memory>(options)) {}
TestDevice::~TestDevice() = default;
Allocator& TestDevice::allocator() { return *memory_; }

Expected<std::unique_ptr<Backend>> TestDevice::open(const BackendOptions& options) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> plain, make_backend("reference", {.threads = options.threads}));
  return std::unique_ptr<Backend>(new TestBackend<Memory>(*memory_, std::move(plain)));
}

}  // namespace liveavatar
