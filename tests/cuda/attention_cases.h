// Cases of attention, for the kernel in f32 and that on tensor cores: operands on the device, and what plain loops in
// double give.
#pragma once

#include <memory>
#include <optional>

#include "core/quantise.h"
#include "emulated_device.h"

namespace liveavatar::cuda::emulated {

struct AttentionCase {
  int64_t queries, heads, head;
  std::vector<int64_t> lengths;  // of the segments
  std::vector<ElementType> k_types = {kF32, kF32, kF32, kF32}, v_types = k_types;
  bool bias = false;
  ElementType q = kF32, out = kF32;
  float deviation = 1;  // of queries and keys; large ones make one key win

  friend void PrintTo(const AttentionCase& c, std::ostream* out) {
    *out << c.heads << " heads of " << c.head << ", " << c.queries << " queries, segments of";
    for (int64_t length : c.lengths) *out << " " << length;
  }

  int64_t width() const { return heads * head; }
  int64_t keys() const {
    int64_t sum = 0;
    for (int64_t length : lengths) sum += length;
    return sum;
  }
};

// Rows of keys or values in any type. An own allocation: whoever reads behind the last is noticed.
class KeyRows {
 public:
  // x [rows, heads * head]
  KeyRows(const std::vector<float>& x, int64_t head, ElementType type) : type_(type), values(x) {
    if (type == kF32 || type == kBF16) {
      values = floats_.emplace(x, type).host();
      return;
    }
    const DType dtype = type == kI8 ? DType::kI8 : DType::kF8E4M3;
    std::vector<uint8_t> codes(x.size());
    std::vector<float> scales;
    for (size_t at = 0; at < x.size(); at += size_t(head)) {
      scales.push_back(quantise_8bit(&x[at], head, dtype, &codes[at]));
      for (size_t i = at; i < at + size_t(head); ++i) values[i] = scales.back() * decode_8bit(dtype, codes[i]);
    }
    codes_.emplace(codes);
    scales_.emplace(scales);
  }
  operator Input() const { return floats_ ? Input(*floats_) : Input{codes_->data(), type_}; }
  const float* scale() const { return scales_ ? scales_->data() : nullptr; }

 private:
  ElementType type_;
  std::optional<DeviceTensor> floats_;
  std::optional<DeviceVector<uint8_t>> codes_;
  std::optional<DeviceVector<float>> scales_;

 public:
  std::vector<float> values;  // what they stand for
};

class AttentionOperands {
 public:
  AttentionOperands(const AttentionCase& c, std::mt19937& random)
      : c_(c),
        q_(normal_values(random, c.queries * c.width(), c.deviation), c.q),
        bias_(c.bias ? normal_values(random, c.heads * c.queries * c.keys(), 2) : std::vector<float>()) {
    for (size_t s = 0; s < c.lengths.size(); ++s) {
      const int64_t count = c.lengths[s] * c.width();
      k_.push_back(
          std::make_unique<KeyRows>(normal_values(random, count, c.deviation + float(s)), c.head, c.k_types[s]));
      v_.push_back(std::make_unique<KeyRows>(normal_values(random, count, 1 + float(s)), c.head, c.v_types[s]));
    }
  }

  AttentionCall call(const DeviceTensor& out) const {
    AttentionCall call{.q = q_,
                       .segment_count = int64_t(k_.size()),
                       .queries = c_.queries,
                       .heads = c_.heads,
                       .head = c_.head,
                       .bias = c_.bias ? bias_.data() : nullptr,
                       .scale = 1 / std::sqrt(float(c_.head)),
                       .out = out};
    for (size_t s = 0; s < k_.size(); ++s) {
      call.segments[s] = {*k_[s], *v_[s], k_[s]->scale(), v_[s]->scale(), c_.lengths[s]};
    }
    return call;
  }
  // [queries, width]
  std::vector<double> expected() const {
    const int64_t width = c_.width(), keys = c_.keys(), head = c_.head;
    const auto q = q_.host(), k = joined(k_), v = joined(v_), bias = bias_.host();
    std::vector<double> out(q.size());
    for (int64_t i = 0; i < c_.queries * c_.heads; ++i) {
      const int64_t query = i / c_.heads, column = i % c_.heads * head, at = query * width + column;
      std::vector<double> p(static_cast<size_t>(keys));
      for (int64_t j = 0; j < keys; ++j) {
        for (int64_t d = 0; d < head; ++d)
          p[size_t(j)] += double(q[size_t(at + d)]) * k[size_t(j * width + column + d)] / std::sqrt(double(head));
        if (c_.bias) p[size_t(j)] += bias[size_t((i % c_.heads * c_.queries + query) * keys + j)];
      }
      to_softmax(p);
      for (int64_t j = 0; j < keys; ++j) {
        for (int64_t d = 0; d < head; ++d) out[size_t(at + d)] += p[size_t(j)] * v[size_t(j * width + column + d)];
      }
    }
    return out;
  }

 private:
  using Segments = std::vector<std::unique_ptr<KeyRows>>;

  static std::vector<float> joined(const Segments& segments) {
    std::vector<float> all;
    for (const auto& s : segments) all.insert(all.end(), s->values.begin(), s->values.end());
    return all;
  }
  static void to_softmax(std::vector<double>& p) {
    const double largest = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& x : p) {
      x = std::exp(x - largest);
      sum += x;
    }
    for (double& x : p) x /= sum;
  }

  AttentionCase c_;
  DeviceTensor q_;
  DeviceVector<float> bias_;
  Segments k_, v_;
};

}  // namespace liveavatar::cuda::emulated
