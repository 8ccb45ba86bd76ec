// Attention on tensor cores against plain loops.
#include "attention_cases.h"
#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::emulated {
namespace {

const std::vector<ElementType> kAllBF16{kBF16, kBF16, kBF16, kBF16};

AttentionCase in_bf16(int64_t queries, int64_t heads, int64_t head, std::vector<int64_t> lengths,
                      std::vector<ElementType> k_types = kAllBF16, std::vector<ElementType> v_types = kAllBF16) {
  return {queries, heads, head, std::move(lengths), std::move(k_types), std::move(v_types), false, kBF16, kBF16};
}
AttentionCase with_deviation(AttentionCase c, float deviation) {
  c.deviation = deviation;
  return c;
}

class CudaAttention : public KernelTest, public testing::WithParamInterface<AttentionCase> {};

TEST_P(CudaAttention, IsThatOfPlainLoops) {
  const AttentionCase& c = GetParam();
  const AttentionOperands operands(c, random_);
  const auto expected = operands.expected();
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor out(int64_t(expected.size()), kBF16);
    EXPECT_EQ(launch_attention_bf16(operands.call(out), nullptr), 0);
    EXPECT_EQ(emulate::last_counts.bank_conflicts, 0u);
    EXPECT_TRUE(near(out.host(), expected, 6e-3)) << "order " << order;  // also p is rounded to bf16
  }
}

// Queries and keys below, at and above a tile; segments that are empty; heads that the tiles pad.
INSTANTIATE_TEST_SUITE_P(Sizes, CudaAttention,
                         testing::Values(in_bf16(64, 1, 128, {64}), in_bf16(5, 2, 128, {1, 70, 64}),
                                         in_bf16(67, 3, 128, {0, 130, 0, 33}), in_bf16(96, 2, 128, {300}),
                                         in_bf16(3, 1, 128, {0, 0, 33, 0}),
                                         with_deviation(in_bf16(20, 1, 128, {90, 77}), 5), in_bf16(70, 3, 48, {65, 20}),
                                         in_bf16(33, 2, 80, {9, 80}), in_bf16(1, 2, 64, {1})));
// Keys and values of 8 bits, also beside those of bf16; rows that are aligned to 8 bytes and no more.
INSTANTIATE_TEST_SUITE_P(
    EightBit, CudaAttention,
    testing::Values(in_bf16(64, 1, 128, {64}, {kI8}, {kI8}), in_bf16(5, 2, 64, {130}, {kE4M3}, {kE4M3}),
                    in_bf16(67, 3, 128, {20, 100, 0, 33}, {kI8, kBF16, kI8, kE4M3}, {kBF16, kE4M3, kI8, kI8}),
                    in_bf16(33, 3, 24, {70, 64}, {kBF16, kI8}, {kBF16, kBF16}),
                    with_deviation(in_bf16(20, 1, 104, {90, 1}, {kE4M3, kE4M3}, {kI8, kE4M3}), 5),
                    in_bf16(1, 2, 8, {1}, {kI8}, {kE4M3})));

}  // namespace
}  // namespace liveavatar::cuda::emulated
