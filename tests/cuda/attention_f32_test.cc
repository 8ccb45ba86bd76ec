// Attention in f32 arithmetic against plain loops.
#include <cstring>

#include "attention_cases.h"
#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::emulated {
namespace {

class CudaAttentionF32 : public KernelTest, public testing::WithParamInterface<AttentionCase> {};

TEST_P(CudaAttentionF32, IsThatOfPlainLoops) {
  const AttentionCase& c = GetParam();
  const AttentionOperands operands(c, random_);
  const auto expected = operands.expected();
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor out(int64_t(expected.size()), c.out);
    EXPECT_EQ(launch_attention_f32(operands.call(out), nullptr), 0);
    EXPECT_TRUE(near(out.host(), expected, tolerance_of(c.out))) << "order " << order;
  }
}

// Queries and keys below, at and above a tile; segments that are empty; heads of a multiple of 4 and not, and in each
// count of 128 columns, up to the largest.
INSTANTIATE_TEST_SUITE_P(
    Sizes, CudaAttentionF32,
    testing::Values(AttentionCase{1, 1, 1, {1}}, AttentionCase{16, 1, 128, {32}}, AttentionCase{7, 3, 32, {5}},
                    AttentionCase{20, 2, 24, {70, 3, 0, 40}}, AttentionCase{9, 4, 12, {33}, {kF32}, {kF32}, true},
                    AttentionCase{5, 1, 130, {65, 1, 0}}, AttentionCase{3, 5, 64, {100}, {kF32}, {kF32}, true},
                    AttentionCase{37, 3, 15, {0, 0, 60, 45}, {kF32, kF32, kF32, kF32}, {kF32, kF32, kF32, kF32}, true},
                    AttentionCase{17, 1, 384, {40}}, AttentionCase{2, 1, 509, {33}}, AttentionCase{18, 1, 512, {34}},
                    AttentionCase{20, 1, 64, {90}, {kF32}, {kF32}, false, kF32, kF32, 5}));
INSTANTIATE_TEST_SUITE_P(
    Types, CudaAttentionF32,
    testing::Values(AttentionCase{7, 3, 32, {33, 40}, {kBF16, kF32}, {kF32, kBF16}, false, kBF16, kBF16},
                    AttentionCase{
                        9, 2, 24, {40, 33, 20, 1}, {kI8, kF32, kF32, kI8}, {kI8, kF32, kI8, kBF16}, false, kBF16},
                    AttentionCase{3, 4, 15, {20, 35}, {kE4M3, kI8}, {kE4M3, kE4M3}, true, kF32, kBF16},
                    AttentionCase{5, 1, 130, {35, 1}, {kE4M3, kBF16}, {kI8, kE4M3}}));

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
