// Rates of the hot ops at the shapes of the 14B model, and of copies.
#include <chrono>
#include <cstdio>
#include <functional>
#include <vector>

#include "core/memory.h"
#include "gpu_check.h"
#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace liveavatar::gpu_check {
namespace {

constexpr int64_t kDim = 5120, kFfn = 13824, kHeads = 40;
constexpr double kTera = 1e12, kGiga = 1e9;

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Shapes as on a card, or small ones for the emulation.
struct Sizes {
  int64_t tokens, keys, dim, ffn, heads, rows, columns, channels;
};
constexpr Sizes kOnCard{3168, 15312, kDim, kFfn, kHeads, 384, 704, 96};  // 704x384: a block, a full KV cache
constexpr Sizes kEmulated{40, 70, 256, 320, 2, 8, 12, 16};

class Rates {
 public:
  Rates(Backend& backend, Budget& budget, const Sizes& sizes) : backend_(backend), budget_(budget), s_(sizes) {}

  Status measure_all() {
    for (DType type : {DType::kBF16, DType::kI8, DType::kF8E4M3, DType::kQ4}) {
      LA_RETURN_IF_ERROR(linear(DType::kBF16, type, s_.ffn, s_.dim));
      LA_RETURN_IF_ERROR(linear(DType::kBF16, type, s_.dim, s_.ffn));
    }
    LA_RETURN_IF_ERROR(linear(DType::kF32, DType::kBF16, s_.dim, s_.dim));
    LA_RETURN_IF_ERROR(linear(DType::kF32, DType::kF32, s_.dim, s_.dim));
    for (DType type : {DType::kBF16, DType::kI8}) LA_RETURN_IF_ERROR(attention(type));
    for (int64_t factor : {1, 2, 4}) LA_RETURN_IF_ERROR(conv(s_.channels * factor, factor));
    return layer_norm();
  }

  // Of a backend that multiplies 8-bit weights in 8 bits. What the card cannot, it multiplies in bf16.
  Status measure_8bit_products() {
    for (DType type : {DType::kI8, DType::kF8E4M3}) {
      LA_RETURN_IF_ERROR(linear(DType::kBF16, type, s_.ffn, s_.dim));
      LA_RETURN_IF_ERROR(linear(DType::kBF16, type, s_.dim, s_.ffn));
    }
    return {};
  }

 private:
  Expected<Tensor> tensor(Shape shape, DType type) {
    LA_ASSIGN_OR_RETURN(OwnedTensor owned, OwnedTensor::allocate(budget_, MemoryCategory::kRuntime, shape, type));
    if (type == DType::kF32 || type == DType::kBF16)
      LA_RETURN_IF_ERROR(fill_with_noise(backend_, budget_, owned.tensor));
    owned_.push_back(std::move(owned));
    return owned_.back().tensor;
  }
  // [length, heads * d] in that type, and its scales.
  Status keys(DType type, Tensor& t, Tensor& scale) {
    LA_ASSIGN_OR_RETURN(Tensor values, tensor({s_.keys, s_.dim}, DType::kBF16));
    t = values;
    if (type == DType::kBF16) return {};
    LA_ASSIGN_OR_RETURN(t, tensor({s_.keys, s_.dim}, type));
    LA_ASSIGN_OR_RETURN(scale, tensor({s_.keys, s_.heads}, DType::kF32));
    ops::quantise(backend_, values, t, scale);
    return {};
  }
  Expected<const void*> packed(size_t bytes, const std::function<void(void*)>& pack) {
    std::vector<std::byte> host(bytes);
    pack(host.data());
    LA_ASSIGN_OR_RETURN(Buffer buffer, Buffer::allocate(budget_, MemoryCategory::kRuntime, bytes));
    LA_RETURN_IF_ERROR(budget_.allocator().write(buffer.data(), host.data(), bytes));
    buffers_.push_back(std::move(buffer));
    return static_cast<const void*>(buffers_.back().data());
  }

  Status linear(DType x_type, DType type, int64_t n, int64_t k) {
    std::vector<float> weights = noise_values(n * k);
    LinearWeight w{.dtype = type, .n = n, .k = k};
    LA_ASSIGN_OR_RETURN(w.data, packed(backend_.packed_linear_bytes(n, k, type), [&](void* to) {
                          backend_.pack_linear(Tensor(weights.data(), {n, k}, DType::kF32), type, to);
                        }));
    LA_ASSIGN_OR_RETURN(Tensor x, tensor({s_.tokens, k}, x_type));
    LA_ASSIGN_OR_RETURN(Tensor out, tensor({s_.tokens, n}, x_type));
    const std::string op = backend_.int8_products() ? "linear_8bit." : "linear.";
    const std::string name = op + dtype_name(x_type) + "." + dtype_name(type) + "." + std::to_string(s_.tokens) + "x" +
                             std::to_string(n) + "x" + std::to_string(k);
    return time(name, 2.0 * double(s_.tokens) * double(n) * double(k) / kTera, "Tflop/s",
                [&] { ops::linear(backend_, x, w, out); });
  }

  Status attention(DType type) {
    LA_ASSIGN_OR_RETURN(Tensor q, tensor({s_.tokens, s_.dim}, DType::kBF16));
    LA_ASSIGN_OR_RETURN(Tensor out, tensor({s_.tokens, s_.dim}, DType::kBF16));
    KeyValues kv;
    LA_RETURN_IF_ERROR(keys(type, kv.k, kv.k_scale));
    LA_RETURN_IF_ERROR(keys(type, kv.v, kv.v_scale));
    const double flops = 4.0 * double(s_.tokens) * double(s_.keys) * double(s_.dim);
    return time(std::string("attention.") + dtype_name(type), flops / kTera, "Tflop/s", [&] {
      ops::attention(backend_, q, {&kv, 1}, {.heads = s_.heads, .scale = 0.1f}, out);
    });
  }

  // 3x3x3, as in the decoder: more channels where there are fewer pixels.
  Status conv(int64_t channels, int64_t factor) {
    const int64_t rows = s_.rows / factor, columns = s_.columns / factor, taps = 27;
    ConvWeight w{.dtype = DType::kBF16, .out_channels = channels, .in_channels = channels, .kernel = {3, 3, 3}};
    std::vector<float> weights = noise_values(channels * channels * taps);
    LA_ASSIGN_OR_RETURN(w.data, packed(backend_.packed_conv_bytes(w), [&](void* to) {
                          backend_.pack_conv(Tensor(weights.data(), {channels, channels, 3, 3, 3}, DType::kF32), w, to);
                        }));
    LA_ASSIGN_OR_RETURN(Tensor x, tensor({4, rows, columns, channels}, DType::kBF16));
    LA_ASSIGN_OR_RETURN(Tensor out, tensor({4, rows, columns, channels}, DType::kBF16));
    const ConvGeometry g{.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1, .zero_frames = 2};
    const double flops = 2.0 * 4 * double(rows * columns * channels * channels * taps);
    return time("conv.BF16." + std::to_string(channels), flops / kTera, "Tflop/s",
                [&] { ops::conv(backend_, x, w, g, out); });
  }

  Status layer_norm() {
    LA_ASSIGN_OR_RETURN(Tensor x, tensor({s_.tokens, s_.dim}, DType::kF32));
    LA_ASSIGN_OR_RETURN(Tensor out, tensor({s_.tokens, s_.dim}, DType::kBF16));
    const double bytes = double(x.bytes() + out.bytes());
    return time("layer_norm", bytes / kGiga, "GB/s", [&] { ops::layer_norm(backend_, x, 1e-6f, out); });
  }

  // `work` a call.
  Status time(const std::string& name, double work, const char* unit, const std::function<void()>& run) {
    LA_ASSIGN_OR_RETURN(double seconds, seconds_per_call(backend_, run));
    print_figure(name, work / seconds, unit);
    owned_.clear();
    buffers_.clear();
    return {};
  }

  Backend& backend_;
  Budget& budget_;
  Sizes s_;
  std::vector<OwnedTensor> owned_;
  std::vector<Buffer> buffers_;
};

int failed(const Status& status) {
  std::printf("%s\n", status.message().c_str());
  return 1;
}

}  // namespace

int measure_rates(const std::string& device) {
  Expected<std::unique_ptr<DeviceSource>> source = open_device(device);
  if (!source.ok()) return failed(source.status());
  const Sizes& sizes = device == "cuda-emulated" ? kEmulated : kOnCard;
  for (bool in_8_bits : {false, true}) {
    Budget host, budget(Budget::kUnlimited, (*source)->allocator(), host);
    Expected<std::unique_ptr<Backend>> backend = (*source)->open({.int8_products = in_8_bits, .budget = &budget});
    if (!backend.ok()) return failed(backend.status());
    std::printf("%s\n", (*backend)->describe().c_str());
    Rates rates(**backend, budget, sizes);
    const Status measured = in_8_bits ? rates.measure_8bit_products() : rates.measure_all();
    if (!measured.ok()) return failed(measured);
  }
  return 0;
}

int measure_copies(const std::string& device) {
  Expected<std::unique_ptr<DeviceSource>> source = open_device(device);
  if (!source.ok()) return failed(source.status());
  const size_t bytes = size_t{1} << (device == "cuda-emulated" ? 20 : 28);
  Budget host, budget(Budget::kUnlimited, (*source)->allocator(), host);
  Expected<Buffer> there = Buffer::allocate(budget, MemoryCategory::kRuntime, bytes);
  if (!there.ok()) return failed(there.status());
  std::vector<std::byte> here(bytes, std::byte{1});
  constexpr int kCopies = 8;
  for (bool up : {true, false}) {
    const double start = now_s();
    for (int i = 0; i < kCopies; ++i) {
      const Status copied = up ? (*source)->allocator().write(there->data(), here.data(), bytes)
                               : (*source)->allocator().read(there->data(), here.data(), bytes);
      if (!copied.ok()) return failed(copied);
    }
    print_figure(up ? "copy.to_device" : "copy.to_host", kCopies * double(bytes) / kGiga / (now_s() - start), "GB/s");
  }
  return 0;
}

}  // namespace liveavatar::gpu_check
