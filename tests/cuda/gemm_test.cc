// Linear layers and convolutions on tensor cores against plain loops.
#include <cstring>

#include "backend/cuda/kernels/launches.h"
#include "product_cases.h"

namespace liveavatar::cuda::emulated {
namespace {

constexpr Activation kNone = Activation::kNone, kGelu = Activation::kGeluTanh;

// f32 operands are f32 in the product, too.
double tolerance_of(ElementType x, ElementType out) {
  if (out == kBF16) return kBF16Tolerance;
  return x == kF32 ? 2e-6 : kF32Tolerance;
}

class CudaGemm : public KernelTest, public testing::WithParamInterface<LinearCase> {};

TEST_P(CudaGemm, IsThatOfPlainLoops) {
  const LinearCase& c = GetParam();
  const LinearOperands operands(c, random_);
  const auto expected = operands.expected();
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor out(operands.out_before(), c.out);
    EXPECT_EQ(launch_linear_bf16(operands.call(out), nullptr), 0);
    EXPECT_EQ(emulate::last_counts.bank_conflicts, 0u);
    EXPECT_TRUE(near(out.host(), expected, tolerance_of(c.x, c.out))) << "order " << order;
  }
}

// Sizes below, at and above a block's; k that is a multiple of 8, of 4 and not, so that rows of x are misaligned; what
// is left over of k, and of a group of packed rows.
INSTANTIATE_TEST_SUITE_P(Sizes, CudaGemm,
                         testing::Values(LinearCase{64, 64, 64, kBF16, kBF16}, LinearCase{1, 1, 1, kBF16, kBF16},
                                         LinearCase{7, 65, 33, kBF16, kBF16, kF32, kBF16},
                                         LinearCase{13, 130, 96, kBF16, kBF16, kF32, kF32, 0, true, kNone},
                                         LinearCase{100, 3, 257, kBF16, kBF16, kBF16, kBF16, 2, true},
                                         LinearCase{66, 70, 72, kBF16, kBF16, kF32, kF32, 3, true, kGelu},
                                         LinearCase{64, 256, 256, kBF16, kBF16, kBF16, kF32},
                                         LinearCase{130, 140, 200, kBF16, kBF16, kBF16, kBF16, 2, true, kGelu, true},
                                         LinearCase{37, 300, 1091, kBF16, kBF16, kF32, kF32, 0, true, kGelu, true}));
INSTANTIATE_TEST_SUITE_P(InputsInF32, CudaGemm,
                         testing::Values(LinearCase{64, 64, 64, kF32, kBF16}, LinearCase{1, 1, 1, kF32, kBF16},
                                         LinearCase{7, 65, 36, kF32, kBF16, kF32, kF32, 0, false, kNone},
                                         LinearCase{70, 131, 250, kF32, kBF16, kBF16, kF32, 2},
                                         LinearCase{66, 140, 196, kF32, kBF16, kF32, kF32, 3, true, kNone, true},
                                         LinearCase{30, 70, 77, kF32, kBF16, kF32, kBF16, 0, false, kNone, true}));
INSTANTIATE_TEST_SUITE_P(
    QuantisedWeights, CudaGemm,
    testing::Values(LinearCase{1, 1, 1, kBF16, kI8}, LinearCase{70, 70, 136, kBF16, kI8, kBF16, kF32, 2},
                    LinearCase{7, 200, 77, kBF16, kI8, kF32, kF32, 0, true, kNone, true},
                    LinearCase{33, 65, 132, kF32, kI8, kF32, kF32, 0, false, kNone},
                    LinearCase{5, 130, 50, kF32, kI8, kF32, kF32, 0, false, kNone, true},
                    LinearCase{1, 1, 1, kBF16, kE4M3}, LinearCase{130, 65, 200, kBF16, kE4M3, kF32, kF32, 0, true},
                    LinearCase{20, 300, 72, kBF16, kE4M3, kBF16, kBF16, 0, true, kNone, true},
                    LinearCase{33, 70, 132, kF32, kE4M3, kF32, kF32, 0, false, kNone, true},
                    LinearCase{5, 66, 33, kF32, kE4M3, kF32, kF32, 0, false, kNone}, LinearCase{1, 1, 1, kBF16, kQ4},
                    LinearCase{65, 70, 264, kBF16, kQ4, kF32, kF32, 5},
                    LinearCase{131, 200, 97, kBF16, kQ4, kF32, kF32, 0, false, kNone, true},
                    LinearCase{40, 129, 328, kBF16, kQ4, kBF16, kF32, 0, false, kNone, true},
                    LinearCase{33, 70, 100, kF32, kQ4, kF32, kF32, 0, false, kNone},
                    LinearCase{66, 130, 31, kF32, kQ4, kF32, kF32, 0, false, kNone, true}));

TEST_F(KernelTest, CudaGemmMultipliesEachFragmentOnce) {
  const int64_t size = 64;  // one block of 4 warps, one step
  const LinearOperands operands({size, size, size, kBF16, kBF16}, random_);
  launch_linear_bf16(operands.call({size * size, kF32}), nullptr);
  const emulate::Counts& counts = emulate::last_counts;
  EXPECT_EQ(counts.blocks, 1u);
  EXPECT_EQ(counts.products, uint64_t((size / 16) * (size / 8) * (size / 16)));
  EXPECT_EQ(counts.matrix_loads, uint64_t(4 * (size / 16) * (2 + 2)));  // a warp, 16 of k: 2 of x, 2 of w
  EXPECT_EQ(counts.barriers, 3u);                                       // the step's, and around acc in shared memory
}

struct GemmTypes {
  ElementType x, w;
};

class CudaGemmRow : public KernelTest, public testing::WithParamInterface<GemmTypes> {
 protected:
  static constexpr int64_t kRows = 150, kColumns = 136, kDepth = 200;

  std::vector<float> run(const PackedWeights& w, const std::vector<float>& x, bool large) {
    const int64_t rows = int64_t(x.size()) / kDepth;
    const DeviceTensor in(x, GetParam().x), out(rows * kColumns, kF32);
    launch_linear_bf16({in, w.matrix(), rows, {nullptr, nullptr, 1, {}, kNone}, out, large}, nullptr);
    return out.host();
  }
};

TEST_P(CudaGemmRow, HasTheSameBitsAloneAsAmongOthersInBlocksOfAnyShape) {
  const auto x = normal(kRows * kDepth);
  const PackedWeights w(normal(kColumns * kDepth), kColumns, kDepth, GetParam().w);
  const auto all = run(w, x, false);
  EXPECT_EQ(run(w, x, true), all);
  for (int64_t r : {0, 7, 63, 64, 129, 149}) {
    const std::vector<float> row(x.begin() + r * kDepth, x.begin() + (r + 1) * kDepth);
    for (bool large : {false, true}) {
      EXPECT_EQ(std::memcmp(run(w, row, large).data(), &all[size_t(r * kColumns)], kColumns * sizeof(float)), 0)
          << "row " << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaGemmRow,
                         testing::Values(GemmTypes{kBF16, kBF16}, GemmTypes{kF32, kBF16}, GemmTypes{kBF16, kI8},
                                         GemmTypes{kF32, kQ4}));

// x of large and small values beside each other: only all of a value's bits give the sum.
TEST_F(KernelTest, CudaGemmKeepsEveryBitOfAnF32) {
  const std::vector<float> values{16777215.0f, -0x1.fffffep-40f, 0x1.abcdefp20f, 0x1.000002p0f, -0x1.fffffep100f, 0.0f};
  const int64_t k = int64_t(values.size());
  std::vector<float> identity(size_t(k * k));
  for (int64_t i = 0; i < k; ++i) identity[size_t(i * k + i)] = 1;
  const PackedWeights w(identity, k, k, kBF16);
  const DeviceTensor x(values, kF32), out(k, kF32);
  launch_linear_bf16({x, w.matrix(), 1, {nullptr, nullptr, 1, {}, kNone}, out}, nullptr);
  EXPECT_EQ(out.host(), values) << "wrong result";
}

class CudaConv : public KernelTest, public testing::WithParamInterface<ConvCase> {};

TEST_P(CudaConv, IsThatOfPlainLoops) {
  const ConvCase& c = GetParam();
  const ConvOperands operands(c, random_);
  const auto expected = operands.expected();
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor out(std::vector<float>(expected.size()), c.out);
    EXPECT_EQ(launch_conv_bf16(operands.call(out), nullptr), 0);
    EXPECT_EQ(emulate::last_counts.bank_conflicts, 0u);
    EXPECT_TRUE(near(out.host(), expected, tolerance_of(c.type, c.out))) << "order " << order;
  }
}

// Channels that are a multiple of 8, of 4 and not, so that a tile's row holds several pixels, one and a part of one;
// history, zero frames, strides, padding on some sides, doubled pixels, groups.
INSTANTIATE_TEST_SUITE_P(
    Geometries, CudaConv,
    testing::Values(
        ConvCase{{2, 6, 5, 16}, 20, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 2, 1, false, true, kBF16, kBF16, kBF16},
        ConvCase{
            {2, 6, 11, 96}, 96, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 1, 1, 1, false, true, kBF16, kBF16, kF32, true},
        ConvCase{
            {1, 4, 7, 40}, 136, {1, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 0, 1, true, false, kBF16, kBF16, kBF16, true},
        ConvCase{{2, 5, 8, 24}, 10, {1, 1, 1}, {1, 1, 1}, {}, 0, 0, 1, false, true, kBF16, kBF16},
        ConvCase{{3, 7, 9, 5}, 11, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 2, 0, 1, false, false, kBF16, kBF16},
        ConvCase{{1, 1, 37, 144}, 144, {1, 1, 3}, {1, 1, 1}, {0, 0, 1, 1}, 0, 0, 2, false, true, kBF16, kBF16},
        ConvCase{{4, 4, 3, 8}, 8, {3, 1, 1}, {2, 1, 1}, {}, 0, 1, 1, false, false, kBF16, kBF16}));
INSTANTIATE_TEST_SUITE_P(
    InputsInF32, CudaConv,
    testing::Values(
        ConvCase{{2, 8, 10, 6}, 6, {1, 3, 3}, {1, 2, 2}, {0, 1, 0, 1}, 0, 0, 1, false, true, kF32, kBF16},
        ConvCase{{2, 6, 5, 16}, 20, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 2, 1, false, true, kF32, kBF16},
        ConvCase{
            {1, 3, 50, 12}, 70, {1, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 2, 0, 1, false, false, kF32, kBF16, kF32, true},
        ConvCase{{1, 1, 50, 1}, 9, {1, 1, 10}, {1, 1, 5}, {}, 0, 0, 1, false, false, kF32, kBF16, kF32, true},
        ConvCase{{1, 1, 37, 24}, 24, {1, 1, 16}, {1, 1, 1}, {0, 0, 8, 7}, 0, 0, 4, false, true, kF32, kBF16},
        ConvCase{{2, 9, 17, 6}, 16, {1, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 0, 1, true, false, kF32, kBF16}));

}  // namespace
}  // namespace liveavatar::cuda::emulated
