// Attention over segments against plain loops.
#include <memory>

#include "backend/cuda/kernels/launches.h"
#include "emulated_device.h"

namespace liveavatar::cuda::emulated {
namespace {

struct AttentionCase {
  int64_t heads, queries;
  std::vector<int64_t> lengths;  // of the segments
  int64_t head = 128;
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

// q [queries, width], k, v [keys, width] -> [queries, width]
std::vector<double> plain_attention(const AttentionCase& c, const std::vector<float>& q, const std::vector<float>& k,
                                    const std::vector<float>& v) {
  const int64_t width = c.width(), keys = c.keys();
  std::vector<double> out(q.size());
  for (int64_t i = 0; i < c.queries * c.heads; ++i) {
    const int64_t at = i / c.heads * width + i % c.heads * c.head, head = i % c.heads * c.head;
    std::vector<double> p(static_cast<size_t>(keys));
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t d = 0; d < c.head; ++d)
        p[size_t(j)] += double(q[size_t(at + d)]) * k[size_t(j * width + head + d)] / std::sqrt(double(c.head));
    }
    const double largest = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& x : p) {
      x = std::exp(x - largest);
      sum += x;
    }
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t d = 0; d < c.head; ++d) out[size_t(at + d)] += p[size_t(j)] / sum * v[size_t(j * width + head + d)];
    }
  }
  return out;
}

class CudaAttention : public KernelTest, public testing::WithParamInterface<AttentionCase> {};

TEST_P(CudaAttention, IsThatOfPlainLoops) {
  const AttentionCase& c = GetParam();
  const int64_t width = c.width();
  const auto q = normal_bf16(c.queries * width, c.deviation), k = normal_bf16(c.keys() * width, c.deviation),
             v = normal_bf16(c.keys() * width);
  const DeviceVector<uint16_t> dq(rounded(q));
  // An own allocation for each segment: whoever reads behind its last key is noticed.
  std::vector<std::unique_ptr<DeviceVector<uint16_t>>> segments;
  auto segment = [&](const std::vector<float>& all, int64_t first, int64_t length) {
    const std::vector<float> part(all.begin() + first * width, all.begin() + (first + length) * width);
    segments.push_back(std::make_unique<DeviceVector<uint16_t>>(rounded(part)));
    return segments.back()->data();
  };
  AttentionCall call{};
  int64_t first = 0;
  for (int64_t length : c.lengths) {
    AttentionCall::Segment& s = call.segments[call.segment_count];
    s.k = {segment(k, first, length), ElementType::kBF16};
    s.v = {segment(v, first, length), ElementType::kBF16};
    s.length = length;
    ++call.segment_count;
    first += length;
  }
  call.q = {dq.data(), ElementType::kBF16};
  call.queries = c.queries;
  call.heads = c.heads;
  call.head = c.head;
  call.scale = 1 / std::sqrt(float(c.head));
  const auto expected = plain_attention(c, q, k, v);
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceVector<uint16_t> out(q.size());
    call.out = {out.data(), ElementType::kBF16};
    EXPECT_EQ(launch_attention_bf16(call, nullptr), 0);
    EXPECT_EQ(emulate::last_counts.bank_conflicts, 0u);
    EXPECT_TRUE(near(widened(out.host()), expected, 6e-3)) << "order " << order;  // also p is rounded to bf16
  }
}

// Queries and keys below, at and above a tile; segments that are empty; heads that the tiles pad.
INSTANTIATE_TEST_SUITE_P(Sizes, CudaAttention,
                         testing::Values(AttentionCase{1, 64, {64}}, AttentionCase{2, 5, {1, 70, 64}},
                                         AttentionCase{3, 67, {0, 130, 0, 33}}, AttentionCase{2, 96, {300}},
                                         AttentionCase{1, 3, {0, 0, 33, 0}}, AttentionCase{1, 20, {90, 77}, 128, 5},
                                         AttentionCase{3, 70, {65, 20}, 48}, AttentionCase{2, 33, {9, 80}, 80},
                                         AttentionCase{2, 1, {1}, 64}));

}  // namespace
}  // namespace liveavatar::cuda::emulated
