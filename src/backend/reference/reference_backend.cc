// The reference: every op as plain f32 loops, row by row, with sums in ascending order, in double if that is cheap. The
// other backends are tested against it, so it is simple and slow.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/reference/elements.h"
#include "backend/reference/make_reference_backend.h"
#include "backend/reference/quantised.h"
#include "core/memory.h"
#include "core/quantise.h"
#include "core/threads.h"

namespace liveavatar {
namespace {

using reference::activated;
using reference::load;
using reference::store;
using reference::weight_at;

// An element of keys or values: row, head, and index in the head's d.
float key_at(const Tensor& t, const Tensor& scale, int64_t row, std::array<int64_t, 3> head_d_at) {
  auto [head, d, at] = head_d_at;
  int64_t i = row * t.dim(1) + head * d + at;
  if (scale.empty()) return load(t, i);
  return scale.host<float>()[row * scale.dim(1) + head] *
         decode_8bit(t.dtype, static_cast<const uint8_t*>(t.address())[i]);
}

// Offset in t [G, D] of the group that row r of `rows` rows belongs to.
int64_t group_offset(const Tensor& t, int64_t r, int64_t rows) { return r / (rows / t.dim(0)) * t.dim(1); }

class ReferenceBackend : public Backend {
 public:
  explicit ReferenceBackend(int threads) : pool_(threads), scratch_(static_cast<size_t>(pool_.threads())) {}
  std::string name() const override { return "reference"; }
  std::string describe() const override {
    return "plain f32 loops on " + std::to_string(pool_.threads()) + " threads; slow, for checking the others";
  }
  int threads() const override { return pool_.threads(); }
  bool int8_products() const override { return false; }
  bool rows_are_independent() const override { return true; }

  Event record() override { return {}; }  // an op is done when its call returns
  void wait(Event) override {}
  Status synchronize() override { return {}; }
  void upload(const void* host, const Tensor& to) override { std::memcpy(to.address(), host, to.bytes()); }
  void download(const Tensor& from, void* host) override { std::memcpy(host, from.address(), from.bytes()); }

  Status reserve(const LargestOps&) override { return {}; }  // a row of scores for each thread: too small to count
  void release_scratch() override {}

  std::string packing() const override { return "reference.1"; }
  size_t packed_linear_bytes(int64_t n, int64_t k, DType dtype) const override {
    if (is_quantised(dtype)) return static_cast<size_t>(n) * reference::quantised_row_bytes(k, dtype);
    return static_cast<size_t>(n * k) * dtype_bytes(dtype);
  }
  void pack_linear(const Tensor& weight, DType dtype, void* target) const override {
    if (is_quantised(dtype)) return reference::pack_quantised(weight, dtype, target);
    pack(weight, dtype, target);
  }
  void pack_prequantised(const Tensor& quantised, std::span<const float> scales, void* target) const override {
    reference::pack_prequantised(quantised, scales, target);
  }
  size_t packed_conv_bytes(const ConvWeight& s) const override {
    return static_cast<size_t>(s.out_channels * (s.in_channels / s.groups) * s.kernel[0] * s.kernel[1] * s.kernel[2]) *
           dtype_bytes(s.dtype);
  }
  void pack_conv(const Tensor& weight, const ConvWeight& shape, void* target) const override {
    pack(weight, shape.dtype, target);
  }

  void linear(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e) override {
    int64_t rows = x.dim(0);
    each_row(rows, [&](int64_t r) {
      for (int64_t n = 0; n < w.n; ++n) {
        double sum = 0;
        for (int64_t k = 0; k < w.k; ++k) {
          float weight = is_quantised(w.dtype) ? reference::quantised_value(w.data, w.dtype, n, k, w.k)
                                               : weight_at(w.data, w.dtype, n * w.k + k);
          sum += double(load(x, r * w.k + k)) * double(weight);
        }
        finish(static_cast<float>(sum), w.bias, e, r, rows, n, out);
      }
    });
  }

  void conv(const Tensor& x, const ConvWeight& w, const ConvGeometry& g, const Tensor& out,
            const Epilogue& e) override {
    int64_t pixels = out.dim(0) * out.dim(1) * out.dim(2);
    each_row(pixels, [&](int64_t p) {
      int64_t column = p % out.dim(2);
      int64_t row = p / out.dim(2) % out.dim(1);
      int64_t frame = p / out.dim(2) / out.dim(1);
      for (int64_t o = 0; o < w.out_channels; ++o) {
        finish(conv_sum(x, w, g, {frame, row, column}, o), w.bias, e, p, pixels, o, out);
      }
    });
  }

  void attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                 const Tensor& out) override {
    int64_t d = q.dim(1) / spec.heads;
    int64_t keys = 0;
    for (const KeyValues& s : segments) keys += s.k.dim(0);
    each_row_with_scratch(q.dim(0) * spec.heads, keys, [&](int64_t i, std::span<float> scores) {
      int64_t row = i / spec.heads;
      int64_t head = i % spec.heads;
      int64_t at = row * q.dim(1) + head * d;
      int64_t first = 0;  // key of the segment
      for (const KeyValues& s : segments) {
        for (int64_t k = 0; k < s.k.dim(0); ++k) {
          double sum = 0;
          for (int64_t c = 0; c < d; ++c)
            sum += double(load(q, at + c)) * double(key_at(s.k, s.k_scale, k, {head, d, c}));
          int64_t key = first + k;
          float bias = spec.bias.empty() ? 0.0f : spec.bias.host<float>()[(head * q.dim(0) + row) * keys + key];
          scores[static_cast<size_t>(key)] = static_cast<float>(sum) * spec.scale + bias;
        }
        first += s.k.dim(0);
      }
      softmax_row(scores);
      for (int64_t c = 0; c < d; ++c) {
        double sum = 0;
        first = 0;
        for (const KeyValues& s : segments) {
          for (int64_t k = 0; k < s.v.dim(0); ++k) {
            double weight = scores[static_cast<size_t>(first + k)];
            sum += weight * double(key_at(s.v, s.v_scale, k, {head, d, c}));
          }
          first += s.v.dim(0);
        }
        store(out, at + c, static_cast<float>(sum));
      }
    });
  }

  void layer_norm(const Tensor& x, float eps, const Tensor& weight, const Tensor& bias, const Modulation& m,
                  const Tensor& out) override {
    int64_t width = x.dim(1);
    each_row(x.dim(0), [&](int64_t r) {
      double mean = 0, variance = 0;
      for (int64_t i = 0; i < width; ++i) mean += load(x, r * width + i);
      mean /= double(width);
      for (int64_t i = 0; i < width; ++i) variance += (load(x, r * width + i) - mean) * (load(x, r * width + i) - mean);
      double inverse = 1 / std::sqrt(variance / double(width) + eps);
      for (int64_t i = 0; i < width; ++i) {
        float y = static_cast<float>((load(x, r * width + i) - mean) * inverse);
        if (!weight.empty()) y *= weight.host<float>()[i];
        if (!bias.empty()) y += bias.host<float>()[i];
        if (!m.scale.empty()) {
          int64_t at = group_offset(m.scale, r, x.dim(0)) + i;
          y = y * (1 + m.scale.host<float>()[at]) + m.shift.host<float>()[at];
        }
        store(out, r * width + i, y);
      }
    });
  }

  void rms_norm(const Tensor& x, float eps, const Tensor& gain, const Tensor& out) override {
    int64_t width = x.dim(1);
    each_row(x.dim(0), [&](int64_t r) {
      double inverse = 1 / std::sqrt(squares(x, r) / double(width) + eps);
      for (int64_t i = 0; i < width; ++i)
        store(out, r * width + i, static_cast<float>(load(x, r * width + i) * inverse) * gain.host<float>()[i]);
    });
  }

  void channel_norm(const Tensor& x, const Tensor& gain, Activation activation, const Tensor& out) override {
    int64_t width = x.dim(1);
    each_row(x.dim(0), [&](int64_t r) {
      double factor = std::sqrt(double(width)) / std::max(std::sqrt(squares(x, r)), 1e-12);
      for (int64_t i = 0; i < width; ++i) {
        store(out, r * width + i,
              activated(static_cast<float>(load(x, r * width + i) * factor) * gain.host<float>()[i], activation));
      }
    });
  }

  void rope(const Tensor& x, const Tensor& cos_sin, int64_t heads, const Tensor& out) override {
    int64_t pairs = x.dim(1) / heads / 2;
    each_row(x.dim(0), [&](int64_t r) {
      for (int64_t i = 0; i < heads * pairs; ++i) {
        const float* rotation = cos_sin.host<float>() + (r * pairs + i % pairs) * 2;
        int64_t at = r * x.dim(1) + 2 * i;
        float a = load(x, at), b = load(x, at + 1);
        store(out, at, a * rotation[0] - b * rotation[1]);
        store(out, at + 1, a * rotation[1] + b * rotation[0]);
      }
    });
  }

  void patchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) override {
    auto [pf, ph, pw] = patch;
    int64_t patch_elements = pf * ph * pw;
    each_row(out.dim(0), [&](int64_t token) {
      auto [f0, y0, x0] = corner_of(x, patch, token);
      int64_t to = token * out.dim(1);
      for (int64_t c = 0; c < x.dim(0); ++c) {
        for (int64_t i = 0; i < patch_elements; ++i) {
          int64_t f = f0 + i / pw / ph;
          int64_t y = y0 + i / pw % ph;
          store(out, to, load(x, ((c * x.dim(1) + f) * x.dim(2) + y) * x.dim(3) + x0 + i % pw));
          ++to;
        }
      }
    });
  }

  void unpatchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) override {
    auto [pf, ph, pw] = patch;
    int64_t channels = out.dim(0);
    each_row(x.dim(0), [&](int64_t token) {
      auto [f0, y0, x0] = corner_of(out, patch, token);
      for (int64_t i = 0; i < x.dim(1); ++i) {
        int64_t c = i % channels;
        int64_t in_patch = i / channels;
        int64_t f = f0 + in_patch / pw / ph;
        int64_t y = y0 + in_patch / pw % ph;
        int64_t to = ((c * out.dim(1) + f) * out.dim(2) + y) * out.dim(3) + x0 + in_patch % pw;
        store(out, to, load(x, token * x.dim(1) + i));
      }
    });
  }

  void channels_last(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) override {
    int64_t channels = x.dim(0);
    int64_t pixels = x.elements() / channels;
    each_row(pixels, [&](int64_t p) {
      for (int64_t c = 0; c < channels; ++c)
        store(out, p * channels + c, scaled(load(x, c * pixels + p), scale, shift, c));
    });
  }

  void channels_first(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) override {
    int64_t channels = x.dim(3);
    int64_t pixels = x.elements() / channels;
    each_row(pixels, [&](int64_t p) {
      for (int64_t c = 0; c < channels; ++c)
        store(out, c * pixels + p, scaled(load(x, p * channels + c), scale, shift, c));
    });
  }

  void add(const Tensor& x, const Tensor& y, float y_factor, const Tensor& out) override {
    each_element(x, [&](int64_t i) { store(out, i, load(x, i) + y_factor * load(y, i % y.elements())); });
  }
  void multiply(const Tensor& x, const Tensor& y, const Tensor& out) override {
    each_element(x, [&](int64_t i) { store(out, i, load(x, i) * load(y, i % y.elements())); });
  }
  void activate(const Tensor& x, Activation activation, const Tensor& out) override {
    each_element(x, [&](int64_t i) { store(out, i, activated(load(x, i), activation)); });
  }
  void copy(const Tensor& x, const Tensor& out) override {
    each_element(x, [&](int64_t i) { store(out, i, load(x, i)); });
  }
  void copy_rows(const StridedRows& x, const StridedRows& out, int64_t rows, int64_t columns) override {
    size_t item = dtype_bytes(x.tensor.dtype);
    auto at = [item](const StridedRows& t, int64_t row) {
      return static_cast<std::byte*>(t.tensor.address()) + static_cast<size_t>(t.first + row * t.stride) * item;
    };
    for (int64_t r = 0; r < rows; ++r) std::memcpy(at(out, r), at(x, r), static_cast<size_t>(columns) * item);
  }
  void fill(const Tensor& out, float value) override {
    each_element(out, [&](int64_t i) { store(out, i, value); });
  }
  void clamp(const Tensor& x, float low, float high, const Tensor& out) override {
    each_element(x, [&](int64_t i) { out.host<float>()[i] = std::clamp(x.host<float>()[i], low, high); });
  }
  void to_rgb8(const Tensor& x, const Tensor& out) override {
    each_element(x, [&](int64_t i) {
      float value = std::clamp(x.host<float>()[i], -1.0f, 1.0f);
      bool number = value == value;
      out.host<uint8_t>()[i] = number ? static_cast<uint8_t>((value + 1) * 127.5f + 0.5f) : uint8_t{0};
    });
  }
  void repeat_columns(const Tensor& x, const Tensor& out) override {
    int64_t width = out.dim(1);
    each_row(out.dim(0), [&](int64_t r) { std::fill_n(out.host<float>() + r * width, width, x.host<float>()[r]); });
  }
  void relative_bias(const Tensor& line, const Tensor& out) override {
    int64_t tokens = out.dim(1);
    each_row(out.dim(0) * tokens, [&](int64_t row) {
      const float* from = line.host<float>() + row / tokens * line.dim(1) + tokens - 1 - row % tokens;
      std::copy_n(from, tokens, out.host<float>() + row * tokens);
    });
  }
  void quantise(const Tensor& x, const Tensor& out, const Tensor& scale) override {
    int64_t heads = scale.dim(1);
    int64_t d = x.dim(1) / heads;
    each_row_with_scratch(x.dim(0) * heads, d, [&](int64_t i, std::span<float> values) {
      for (int64_t c = 0; c < d; ++c) values[size_t(c)] = load(x, i * d + c);
      scale.host<float>()[i] = quantise_8bit(values.data(), d, out.dtype, static_cast<uint8_t*>(out.address()) + i * d);
    });
  }
  void dequantise(const Tensor& x, const Tensor& scale, const Tensor& out) override {
    int64_t heads = scale.dim(1);
    int64_t d = x.dim(1) / heads;
    each_row(x.dim(0) * heads, [&](int64_t i) {
      for (int64_t c = i * d; c < (i + 1) * d; ++c)
        store(out, c, scale.host<float>()[i] * decode_8bit(x.dtype, static_cast<const uint8_t*>(x.address())[c]));
    });
  }

 private:
  template <typename F>
  void each_row(int64_t rows, F&& body) {
    pool_.parallel_for(rows, 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) body(r);
    });
  }
  // body(row, scratch): `length` floats for each thread. The memory grows to the longest row and is kept.
  template <typename F>
  void each_row_with_scratch(int64_t rows, int64_t length, F&& body) {
    for (std::vector<float>& scratch : scratch_) scratch.resize(std::max(scratch.size(), static_cast<size_t>(length)));
    pool_.parallel_for(rows, 16, [&](int64_t begin, int64_t end, int thread) {
      std::span<float> scratch(scratch_[static_cast<size_t>(thread)].data(), static_cast<size_t>(length));
      for (int64_t r = begin; r < end; ++r) body(r, scratch);
    });
  }
  template <typename F>
  void each_element(const Tensor& x, F&& body) {
    pool_.parallel_for(x.elements(), 65536, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) body(i);
    });
  }

  // The first element of a token's patch in a video [channels, frames, rows, columns]: frame, row, column.
  static std::array<int64_t, 3> corner_of(const Tensor& video, const std::array<int64_t, 3>& patch, int64_t token) {
    int64_t rows = video.dim(2) / patch[1];
    int64_t columns = video.dim(3) / patch[2];
    return {token / columns / rows * patch[0], token / columns % rows * patch[1], token % columns * patch[2]};
  }

  static void pack(const Tensor& weight, DType dtype, void* target) {
    if (weight.dtype == dtype) {
      std::memcpy(target, weight.address(), weight.bytes());
      return;
    }
    Tensor out(target, weight.shape, dtype);
    for (int64_t i = 0; i < weight.elements(); ++i) store(out, i, load(weight, i));
  }

  // out[r, n] = residual + gate * activation(sum + bias)
  static void finish(float sum, const Tensor& bias, const Epilogue& e, int64_t r, int64_t rows, int64_t n,
                     const Tensor& out) {
    int64_t width = out.dim(out.rank() - 1);
    if (!bias.empty()) sum += bias.host<float>()[n];
    float y = activated(sum, e.activation);
    if (!e.gate.empty()) y *= e.gate.host<float>()[group_offset(e.gate, r, rows) + n];
    if (!e.residual.empty()) y += load(e.residual, r * width + n);
    store(out, r * width + n, y);
  }

  // One output value; at: frame, row, column of the output; o: its channel.
  static float conv_sum(const Tensor& x, const ConvWeight& w, const ConvGeometry& g, const std::array<int64_t, 3>& at,
                        int64_t o) {
    int64_t up = g.upsample2x ? 2 : 1;
    int64_t history = g.history.empty() ? 0 : g.history.dim(0);
    int64_t inputs = w.in_channels / w.groups;
    int64_t group = o / (w.out_channels / w.groups);
    int64_t first_channel = group * inputs;
    int64_t taps = w.kernel[0] * w.kernel[1] * w.kernel[2];
    double sum = 0;
    for (int64_t tap = 0; tap < taps; ++tap) {
      int64_t kf = tap / w.kernel[2] / w.kernel[1];
      int64_t ky = tap / w.kernel[2] % w.kernel[1];
      int64_t kx = tap % w.kernel[2];
      int64_t frame = at[0] * g.stride[0] + kf - g.zero_frames;
      int64_t y = at[1] * g.stride[1] + ky - g.pad_top;
      int64_t column = at[2] * g.stride[2] + kx - g.pad_left;
      if (frame < 0 || y < 0 || column < 0 || y >= x.dim(1) * up || column >= x.dim(2) * up) continue;
      const Tensor& source = frame < history ? g.history : x;
      if (frame >= history) frame -= history;
      int64_t pixel = ((frame * x.dim(1) + y / up) * x.dim(2) + column / up) * x.dim(3) + first_channel;
      for (int64_t c = 0; c < inputs; ++c) {
        float weight = weight_at(w.data, w.dtype, (o * inputs + c) * taps + tap);
        sum += double(load(source, pixel + c)) * double(weight);
      }
    }
    return static_cast<float>(sum);
  }

  static void softmax_row(std::span<float> row) {
    float largest = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (float& v : row) {
      v = std::exp(v - largest);
      sum += v;
    }
    for (float& v : row) v = static_cast<float>(v / sum);
  }

  static double squares(const Tensor& x, int64_t r) {
    double sum = 0;
    for (int64_t i = 0; i < x.dim(1); ++i) sum += double(load(x, r * x.dim(1) + i)) * double(load(x, r * x.dim(1) + i));
    return sum;
  }

  static float scaled(float value, const Tensor& scale, const Tensor& shift, int64_t c) {
    if (!scale.empty()) value *= scale.host<float>()[c];
    if (!shift.empty()) value += shift.host<float>()[c];
    return value;
  }

  ThreadPool pool_;
  std::vector<std::vector<float>> scratch_;  // one a thread
};

}  // namespace

Expected<std::unique_ptr<Backend>> make_reference_backend(const BackendOptions& options) {
  return std::unique_ptr<Backend>(new ReferenceBackend(options.threads));
}

}  // namespace liveavatar
