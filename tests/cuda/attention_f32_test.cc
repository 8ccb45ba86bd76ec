// Attention in f32 arithmetic against plain loops.
#include <cstring>
#include <memory>
#include <optional>

#include "backend/cuda/kernels/launches.h"
#include "core/quantise.h"
#include "emulated_device.h"

namespace liveavatar::cuda::emulated {
namespace {

struct AttentionF32Case {
  int64_t queries, heads, head;
  std::vector<int64_t> lengths;  // of the segments
  std::vector<ElementType> k_types = {kF32, kF32, kF32, kF32}, v_types = k_types;
  bool bias = false;
  ElementType q = kF32, out = kF32;
  float deviation = 1;  // of queries and keys; large ones make one key win

  friend void PrintTo(const AttentionF32Case& c, std::ostream* out) {
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
class Rows {
 public:
  // x [rows, heads * head]
  Rows(const std::vector<float>& x, int64_t head, ElementType type) : type_(type), values(x) {
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

// q [queries, width], k, v [keys, width], bias [heads, queries, keys] or empty -> [queries, width]
std::vector<double> plain_attention(const AttentionF32Case& c, const std::vector<float>& q, const std::vector<float>& k,
                                    const std::vector<float>& v, const std::vector<float>& bias) {
  const int64_t width = c.width(), keys = c.keys();
  std::vector<double> out(q.size());
  for (int64_t i = 0; i < c.queries * c.heads; ++i) {
    const int64_t query = i / c.heads, head = i % c.heads, at = query * width + head * c.head;
    std::vector<double> p(static_cast<size_t>(keys));
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t d = 0; d < c.head; ++d)
        p[size_t(j)] +=
            double(q[size_t(at + d)]) * k[size_t(j * width + head * c.head + d)] / std::sqrt(double(c.head));
      if (!bias.empty()) p[size_t(j)] += bias[size_t((head * c.queries + query) * keys + j)];
    }
    const double largest = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& x : p) {
      x = std::exp(x - largest);
      sum += x;
    }
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t d = 0; d < c.head; ++d)
        out[size_t(at + d)] += p[size_t(j)] / sum * v[size_t(j * width + head * c.head + d)];
    }
  }
  return out;
}

class CudaAttentionF32 : public KernelTest, public testing::WithParamInterface<AttentionF32Case> {
 protected:
  void append(const std::vector<float>& values, std::vector<float>& to) {
    to.insert(to.end(), values.begin(), values.end());
  }
};

TEST_P(CudaAttentionF32, IsThatOfPlainLoops) {
  const AttentionF32Case& c = GetParam();
  const DeviceTensor q(normal(c.queries * c.width(), c.deviation), c.q);
  const auto bias = c.bias ? normal(c.heads * c.queries * c.keys(), 2) : std::vector<float>();
  const DeviceVector<float> dbias(bias);
  AttentionCall call{.q = q,
                     .segment_count = int64_t(c.lengths.size()),
                     .queries = c.queries,
                     .heads = c.heads,
                     .head = c.head,
                     .bias = c.bias ? dbias.data() : nullptr,
                     .scale = 1 / std::sqrt(float(c.head))};
  std::vector<std::unique_ptr<Rows>> operands;
  std::vector<float> k, v;
  for (size_t s = 0; s < c.lengths.size(); ++s) {
    const int64_t count = c.lengths[s] * c.width();
    const Rows& sk = *operands.emplace_back(std::make_unique<Rows>(normal(count, c.deviation), c.head, c.k_types[s]));
    const Rows& sv = *operands.emplace_back(std::make_unique<Rows>(normal(count), c.head, c.v_types[s]));
    call.segments[s] = {sk, sv, sk.scale(), sv.scale(), c.lengths[s]};
    append(sk.values, k);
    append(sv.values, v);
  }
  const auto expected = plain_attention(c, q.host(), k, v, bias);
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor out(std::vector<float>(expected.size()), c.out);
    call.out = out;
    EXPECT_EQ(launch_attention_f32(call, nullptr), 0);
    EXPECT_TRUE(near(out.host(), expected, tolerance_of(c.out))) << "order " << order;
  }
}

// Queries and keys below, at and above a tile; segments that are empty; heads of a multiple of 4 and not, and in each
// count of 128 columns, up to the largest.
INSTANTIATE_TEST_SUITE_P(
    Sizes, CudaAttentionF32,
    testing::Values(AttentionF32Case{1, 1, 1, {1}}, AttentionF32Case{16, 1, 128, {32}}, AttentionF32Case{7, 3, 32, {5}},
                    AttentionF32Case{20, 2, 24, {70, 3, 0, 40}}, AttentionF32Case{9, 4, 12, {33}, {kF32}, {kF32}, true},
                    AttentionF32Case{5, 1, 130, {65, 1, 0}}, AttentionF32Case{3, 5, 64, {100}, {kF32}, {kF32}, true},
                    AttentionF32Case{
                        37, 3, 15, {0, 0, 60, 45}, {kF32, kF32, kF32, kF32}, {kF32, kF32, kF32, kF32}, true},
                    AttentionF32Case{17, 1, 384, {40}}, AttentionF32Case{2, 1, 509, {33}},
                    AttentionF32Case{18, 1, 512, {34}},
                    AttentionF32Case{20, 1, 64, {90}, {kF32}, {kF32}, false, kF32, kF32, 5}));
INSTANTIATE_TEST_SUITE_P(
    Types, CudaAttentionF32,
    testing::Values(AttentionF32Case{7, 3, 32, {33, 40}, {kBF16, kF32}, {kF32, kBF16}, false, kBF16, kBF16},
                    AttentionF32Case{
                        9, 2, 24, {40, 33, 20, 1}, {kI8, kF32, kF32, kI8}, {kI8, kF32, kI8, kBF16}, false, kBF16},
                    AttentionF32Case{3, 4, 15, {20, 35}, {kE4M3, kI8}, {kE4M3, kE4M3}, true, kF32, kBF16},
                    AttentionF32Case{5, 1, 130, {35, 1}, {kE4M3, kBF16}, {kI8, kE4M3}}));

TEST_F(KernelTest, CudaAttentionF32SkipsKeysWithABiasOfMinusInfinity) {
  const int64_t keys = 40, head = 8;
  std::vector<float> bias(size_t(keys), -INFINITY);
  bias.back() = 1;  // in the second tile
  const DeviceTensor q(normal(head), kF32), k(normal(keys * head), kF32), v(normal(keys * head), kF32),
      out(std::vector<float>(size_t(head)), kF32);
  const DeviceVector<float> dbias(bias);
  launch_attention_f32({q, {{k, v, nullptr, nullptr, keys}}, 1, 1, 1, head, dbias.data(), 1, out}, nullptr);
  const auto values = v.host();
  EXPECT_EQ(out.host(), std::vector<float>(values.end() - head, values.end()));
}

TEST_F(KernelTest, CudaAttentionF32QueryHasTheSameBitsAloneAsAmongOthers) {
  const int64_t queries = 37, heads = 3, head = 20, width = heads * head, keys = 70;
  const auto q = normal(queries * width);
  const DeviceTensor k(normal(keys * width), kF32), v(normal(keys * width), kF32);
  auto run = [&](int64_t first, int64_t count) {
    const DeviceTensor part({q.begin() + first * width, q.begin() + (first + count) * width}, kF32);
    const DeviceTensor out(std::vector<float>(size_t(count * width)), kF32);
    launch_attention_f32({part, {{k, v, nullptr, nullptr, keys}}, 1, count, heads, head, nullptr, 0.2f, out}, nullptr);
    return out.host();
  };
  const auto all = run(0, queries);
  for (int64_t r : {0, 3, 4, 15, 16, 36})
    EXPECT_EQ(std::memcmp(run(r, 1).data(), &all[size_t(r * width)], size_t(width) * sizeof(float)), 0)
        << "query " << r;
}

}  // namespace
}  // namespace liveavatar::cuda::emulated
