// Linear layers and convolutions in f32 arithmetic against plain loops.
#include <cstring>

#include "backend/cuda/kernels/launches.h"
#include "product_cases.h"

namespace liveavatar::cuda::emulated {
namespace {

class CudaLinearF32 : public KernelTest, public testing::WithParamInterface<LinearCase> {};

TEST_P(CudaLinearF32, IsThatOfPlainLoops) {
  const LinearCase& c = GetParam();
  const LinearOperands operands(c, random_);
  const auto expected = operands.expected();
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor out(operands.out_before(), c.out);
    EXPECT_EQ(launch_linear_f32(operands.call(out), nullptr), 0);
    EXPECT_TRUE(near(out.host(), expected, tolerance_of(c.out))) << "order " << order;
  }
}

// Sizes below, at and above a block's; k that is a multiple of 4 and not, and that ends within a step.
INSTANTIATE_TEST_SUITE_P(Sizes, CudaLinearF32,
                         testing::Values(LinearCase{1, 1, 1}, LinearCase{64, 64, 64},
                                         LinearCase{7, 65, 33, kBF16, kBF16, kF32, kBF16},
                                         LinearCase{100, 3, 257, kF32, kBF16, kBF16, kF32, 4},
                                         LinearCase{13, 130, 96, kBF16, kF32, kBF16},
                                         LinearCase{66, 70, 72, kF32, kF32, kF32, kF32, 3, true},
                                         LinearCase{130, 20, 36, kBF16, kBF16, kBF16, kBF16, 2, true}));
INSTANTIATE_TEST_SUITE_P(QuantisedWeights, CudaLinearF32,
                         testing::Values(LinearCase{1, 1, 1, kF32, kI8}, LinearCase{7, 65, 33, kBF16, kI8},
                                         LinearCase{20, 130, 64, kF32, kI8}, LinearCase{1, 1, 1, kF32, kE4M3},
                                         LinearCase{7, 65, 33, kF32, kE4M3}, LinearCase{20, 130, 64, kBF16, kE4M3},
                                         LinearCase{1, 1, 1, kF32, kQ4}, LinearCase{7, 65, 33, kF32, kQ4},
                                         LinearCase{100, 3, 257, kBF16, kQ4}, LinearCase{20, 130, 64, kF32, kQ4}));

TEST_F(KernelTest, CudaLinearF32DecodesEveryE4m3) {
  const int64_t n = 256;  // w is a column with each of the bit patterns
  std::vector<uint8_t> bytes;
  for (int64_t first = 0; first < n; first += kGroupRows) {
    for (int64_t row = first; row < first + kGroupRows; ++row) {
      bytes.push_back(uint8_t(row));
      bytes.insert(bytes.end(), 15, 0);
    }
    const std::vector<float> ones(kGroupRows, 1);
    bytes.insert(bytes.end(), reinterpret_cast<const uint8_t*>(ones.data()),
                 reinterpret_cast<const uint8_t*>(ones.data() + kGroupRows));
  }
  const DeviceVector<uint8_t> w(bytes);
  const DeviceTensor x(std::vector<float>{1}, kF32), out(std::vector<float>(size_t(n)), kF32);
  const PackedMatrix matrix{w.data(), kE4M3, n, 1, 16, kGroupRows * 20};
  launch_linear_f32({x, matrix, 1, {nullptr, nullptr, 1, {}, Activation::kNone}, out}, nullptr);
  const auto got = out.host();
  for (int64_t i = 0; i < n; ++i) {
    const float expected = decode_8bit(DType::kF8E4M3, uint8_t(i)), decoded = got[size_t(i)];
    EXPECT_TRUE(decoded == expected || (std::isnan(decoded) && std::isnan(expected))) << "wrong result: of bits " << i;
  }
}

TEST_F(KernelTest, CudaLinearF32RowHasTheSameBitsAloneAsAmongOthers) {
  const int64_t m = 150, n = 72, k = 77;
  const auto x = normal(m * k);
  const PackedWeights w(normal(n * k), n, k, kQ4);
  auto run = [&](int64_t first, int64_t rows) {
    const DeviceTensor part({x.begin() + first * k, x.begin() + (first + rows) * k}, kF32);
    const DeviceTensor out(std::vector<float>(size_t(rows * n)), kF32);
    launch_linear_f32({part, w.matrix(), rows, {nullptr, nullptr, 1, {}, Activation::kNone}, out}, nullptr);
    return out.host();
  };
  const auto all = run(0, m);
  for (int64_t r : {0, 7, 63, 64, 129, 149})
    EXPECT_EQ(std::memcmp(run(r, 1).data(), &all[size_t(r * n)], size_t(n) * sizeof(float)), 0) << "row " << r;
}

class CudaConvF32 : public KernelTest, public testing::WithParamInterface<ConvCase> {};

TEST_P(CudaConvF32, IsThatOfPlainLoops) {
  const ConvCase& c = GetParam();
  const ConvOperands operands(c, random_);
  const auto expected = operands.expected();
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor out(std::vector<float>(expected.size()), c.out);
    EXPECT_EQ(launch_conv_f32(operands.call(out), nullptr), 0);
    EXPECT_TRUE(near(out.host(), expected, tolerance_of(c.out))) << "order " << order;
  }
}

// The cases of tests/ops/product_test.cc: channels that are a multiple of 4 and not, history, zero frames, strides,
// padding on some sides, doubled pixels, groups whose channels are less than a tile.
INSTANTIATE_TEST_SUITE_P(
    Geometries, CudaConvF32,
    testing::Values(
        ConvCase{{3, 7, 9, 5}, 11, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 2},
        ConvCase{{2, 6, 5, 16}, 20, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 2, 1, false, true, kBF16, kBF16, kBF16},
        ConvCase{{1, 6, 5, 3}, 8, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 1, 1},
        ConvCase{{2, 8, 10, 6}, 6, {1, 3, 3}, {1, 2, 2}, {0, 1, 0, 1}, 0, 0, 1, false, true, kBF16},
        ConvCase{{4, 4, 3, 8}, 8, {3, 1, 1}, {2, 1, 1}, {}, 0, 1, 1, false, false, kBF16, kF32, kBF16},
        ConvCase{{2, 3, 4, 12}, 6, {1, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 0, 1, true},
        ConvCase{{1, 1, 50, 1}, 9, {1, 1, 10}, {1, 1, 5}, {}, 0, 0, 1, false, false, kF32, kBF16},
        ConvCase{{1, 1, 37, 24}, 24, {1, 1, 16}, {1, 1, 1}, {0, 0, 8, 7}, 0, 0, 4, false, true},
        ConvCase{{1, 1, 37, 144}, 144, {1, 1, 3}, {1, 1, 1}, {0, 0, 1, 1}, 0, 0, 2, false, true, kBF16, kBF16},
        ConvCase{{1, 20, 4, 7}, 10, {1, 3, 1}, {1, 2, 1}},
        ConvCase{{1, 3, 150, 40}, 37, {1, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}},
        ConvCase{{1, 5, 330, 5}, 33, {1, 1, 3}, {1, 1, 2}, {0, 0, 1, 1}},
        ConvCase{{3, 19, 53, 8}, 8, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 2, 1, false, true},
        ConvCase{{1, 13, 41, 12}, 3, {1, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 2},
        ConvCase{{2, 9, 17, 6}, 16, {1, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 0, 1, true},
        ConvCase{{4, 10, 31, 20}, 4, {3, 1, 5}, {2, 1, 1}, {0, 0, 2, 2}, 0, 1, 1, false, false, kBF16},
        ConvCase{{2, 17, 40, 5}, 7, {2, 3, 3}, {1, 1, 1}, {2, 1, 0, 2}, 1}));

}  // namespace
}  // namespace liveavatar::cuda::emulated
