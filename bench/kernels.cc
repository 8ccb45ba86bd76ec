#include "kernels.h"

#include <benchmark/benchmark.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/memory.h"
#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace liveavatar::bench {

namespace {

// A video model at 384x256 (mini: 128x128): a block of three latents, a full KV cache, the sink.
struct DitShape {
  const char* name;
  int64_t dim, heads, ffn, tokens, keys;
};
constexpr DitShape kDits[] = {
    {"mini", 192, 4, 768, 192, 928}, {"1.3b", 1536, 12, 8960, 1152, 5568}, {"14b", 5120, 40, 13824, 1152, 5568}};

// Convolutions that weigh most in the decoder: [frames, rows, columns, channels] -> channels.
struct VaeShape {
  const char* name;
  int64_t frames, rows, columns, in, out;
};
constexpr VaeShape kVaes[] = {{"mini/full", 4, 128, 128, 8, 8},   {"mini/half", 4, 64, 64, 16, 16},
                              {"mini/eighth", 1, 16, 16, 32, 32}, {"mini/head", 4, 128, 128, 8, 3},
                              {"wan/head", 4, 256, 384, 96, 3},   {"wan/full", 4, 256, 384, 96, 96},
                              {"wan/half", 4, 128, 192, 192, 192}};

// Operands for one benchmark; small numbers that no product turns into infinities.
class Operands {
 public:
  Operands(Backend& backend, Budget& budget) : backend_(backend), budget_(budget) {}

  Tensor tensor(const Shape& shape, DType dtype) {
    Tensor t(take(static_cast<size_t>(shape.elements()) * dtype_bytes(dtype)), shape, dtype);
    for (int64_t i = 0; i < t.elements(); ++i) {
      float value = 0.01f * static_cast<float>(i % 17 - 8);
      if (dtype == DType::kF32) {
        t.host<float>()[i] = value;
      } else {
        t.host<bf16>()[i] = to_bf16(value);
      }
    }
    return t;
  }
  LinearWeight linear(int64_t n, int64_t k, DType dtype) {
    LinearWeight w;
    w.dtype = dtype;
    w.n = n;
    w.k = k;
    void* packed = take(backend_.packed_linear_bytes(n, k, w.dtype));
    backend_.pack_linear(tensor({n, k}, DType::kBF16), w.dtype, packed);
    w.data = packed;
    w.bias = tensor({n}, DType::kF32);
    return w;
  }
  ConvWeight conv(int64_t out, int64_t in) {
    ConvWeight w;
    w.dtype = DType::kBF16;
    w.out_channels = out;
    w.in_channels = in;
    w.kernel = {3, 3, 3};
    void* packed = take(backend_.packed_conv_bytes(w));
    backend_.pack_conv(tensor({out, in, 3, 3, 3}, DType::kBF16), w, packed);
    w.data = packed;
    w.bias = tensor({out}, DType::kF32);
    return w;
  }
  Backend& backend() { return backend_; }
  void reserve(const LargestOps& ops) {
    Status status = backend_.reserve(ops);
    if (!status.ok()) throw std::runtime_error(status.message());
  }

 private:
  void* take(size_t bytes) {
    Expected<Buffer> buffer = Buffer::allocate(budget_, MemoryCategory::kRuntime, bytes);
    if (!buffer.ok()) throw std::runtime_error(buffer.status().message());
    buffers_.push_back(std::move(*buffer));
    return buffers_.back().data();
  }

  Backend& backend_;
  Budget& budget_;
  std::vector<Buffer> buffers_;
};

// Prepares operands and gives back what is to be timed. They are made when the benchmark runs: all at once do not fit.
using Prepare = std::function<std::function<void()>(Operands&)>;

struct Cost {
  double flops = 0, bytes = 0;
};

class Registry {
 public:
  Registry(Backend& backend, Backend& int8, Budget& budget, const Limits& limits)
      : backend_(backend), int8_(int8), budget_(budget), limits_(limits) {}

  // Counters: flops (or bytes) a second and its share of what this machine can do.
  void add(const std::string& name, const Cost& cost, const Prepare& prepare, bool int8_products = false) {
    Backend& backend = int8_products ? int8_ : backend_;
    auto body = [this, &backend, cost, prepare](benchmark::State& state) {
      Operands operands(backend, budget_);
      std::function<void()> run = prepare(operands);
      for (auto _ : state) run();
      using benchmark::Counter;
      bool products = cost.flops > 0;
      double work = products ? cost.flops : cost.bytes;
      double limit = products ? limits_.flops_per_s : limits_.copy_bytes_per_s;
      state.counters[products ? "flops" : "bytes"] = Counter(work, Counter::kIsIterationInvariantRate);
      state.counters["of_limit"] = Counter(work / limit, Counter::kIsIterationInvariantRate);
    };
    benchmark::RegisterBenchmark(name.c_str(), body)->UseRealTime()->Unit(benchmark::kMillisecond);
  }

 private:
  Backend &backend_, &int8_;
  Budget& budget_;
  const Limits& limits_;
};

Prepare linear_of(int64_t rows, int64_t n, int64_t k, const Epilogue& epilogue, DType dtype = DType::kBF16) {
  return [=](Operands& o) {
    Tensor x = o.tensor({rows, k}, DType::kBF16), out = o.tensor({rows, n}, DType::kBF16);
    LinearWeight w = o.linear(n, k, dtype);
    LargestOps ops;
    ops.linear_elements = rows * k;
    ops.linear_k = k;
    o.reserve(ops);
    return [=, &o] { ops::linear(o.backend(), x, w, out, epilogue); };
  };
}

Prepare attention_of(const DitShape& s) {
  return [s](Operands& o) {
    Tensor q = o.tensor({s.tokens, s.dim}, DType::kBF16), out = o.tensor({s.tokens, s.dim}, DType::kBF16);
    KeyValues kv{o.tensor({s.keys, s.dim}, DType::kBF16), o.tensor({s.keys, s.dim}, DType::kBF16)};
    AttentionSpec spec;
    spec.heads = s.heads;
    spec.scale = 0.1f;
    spec.in_8bit = true;
    o.reserve({s.heads, s.dim, s.keys, DType::kBF16});
    return [=, &o] { ops::attention(o.backend(), q, {&kv, 1}, spec, out); };
  };
}

void add_dit(Registry& registry, const DitShape& s) {
  std::string name = s.name;
  auto product = [&](const char* what, int64_t n, int64_t k, Activation activation) {
    Epilogue epilogue;
    epilogue.activation = activation;
    double flops = 2.0 * static_cast<double>(s.tokens * n * k);
    registry.add(name + "/linear_" + what, {flops, 0}, linear_of(s.tokens, n, k, epilogue));
  };
  product("qkvo", s.dim, s.dim, Activation::kNone);
  product("ffn_in_gelu", s.ffn, s.dim, Activation::kGeluTanh);
  product("ffn_out", s.dim, s.ffn, Activation::kNone);
  double square = 2.0 * static_cast<double>(s.tokens * s.dim * s.dim);
  Prepare int8 = linear_of(s.tokens, s.dim, s.dim, {}, DType::kI8);
  registry.add(name + "/linear_qkvo_i8", {square, 0}, int8);
  registry.add(name + "/linear_qkvo_w8a8", {square, 0}, int8, true);
  double attention = 4.0 * static_cast<double>(s.tokens * s.keys * s.dim);
  registry.add(name + "/attention_kv_cache", {attention, 0}, attention_of(s));
  registry.add(name + "/attention_kv_cache_w8a8", {attention, 0}, attention_of(s), true);
  // Loading: f32 in, the packed form out.
  registry.add(name + "/pack_qkvo", {0, 6.0 * static_cast<double>(s.dim * s.dim)}, [s](Operands& o) {
    Tensor weight = o.tensor({s.dim, s.dim}, DType::kF32);
    auto bytes = static_cast<int64_t>(o.backend().packed_linear_bytes(s.dim, s.dim, DType::kBF16));
    Tensor packed = o.tensor({bytes / 2}, DType::kBF16);
    return [=, &o] { o.backend().pack_linear(weight, DType::kBF16, packed.address()); };
  });
  registry.add(name + "/layer_norm", {0, 6.0 * static_cast<double>(s.tokens * s.dim)}, [s](Operands& o) {
    Tensor x = o.tensor({s.tokens, s.dim}, DType::kF32), out = o.tensor({s.tokens, s.dim}, DType::kBF16);
    Modulation m{o.tensor({1, s.dim}, DType::kF32), o.tensor({1, s.dim}, DType::kF32)};
    return [=, &o] { ops::layer_norm(o.backend(), x, 1e-6f, out, m); };
  });
}

void add_vae(Registry& registry, const VaeShape& s) {
  std::string name = s.name;
  int64_t pixels = s.frames * s.rows * s.columns;
  registry.add(name + "/conv", {2.0 * 27 * static_cast<double>(pixels * s.in * s.out), 0}, [s](Operands& o) {
    Tensor x = o.tensor({s.frames, s.rows, s.columns, s.in}, DType::kBF16);
    Tensor out = o.tensor({s.frames, s.rows, s.columns, s.out}, DType::kBF16);
    ConvGeometry g;
    g.pad_top = g.pad_bottom = g.pad_left = g.pad_right = 1;
    g.history = o.tensor({2, s.rows, s.columns, s.in}, DType::kBF16);
    ConvWeight w = o.conv(s.out, s.in);
    return [=, &o] { ops::conv(o.backend(), x, w, g, out); };
  });
  if (s.in != s.out) return;
  registry.add(name + "/channel_norm_silu", {0, 4.0 * static_cast<double>(pixels * s.in)}, [s](Operands& o) {
    Tensor x = o.tensor({s.frames, s.rows, s.columns, s.in}, DType::kBF16), out = o.tensor(x.shape, DType::kBF16);
    Tensor gain = o.tensor({s.in}, DType::kF32);
    return [=, &o] { ops::channel_norm(o.backend(), x, gain, Activation::kSilu, out); };
  });
}

}  // namespace

void register_kernels(Backend& backend, Backend& int8, Budget& budget, const Limits& limits) {
  static Registry registry(backend, int8, budget, limits);  // the benchmarks refer to it
  for (const DitShape& s : kDits) add_dit(registry, s);
  for (const VaeShape& s : kVaes) add_vae(registry, s);
}

}  // namespace liveavatar::bench
