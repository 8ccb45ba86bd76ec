// Layer norm and RoPE against plain loops.
#include "backend/cuda/kernels/launches.h"
#include "emulated_device.h"

namespace liveavatar::cuda::emulated {
namespace {

struct NormCase {
  int64_t rows, width, groups;
  bool affine, modulated;

  friend void PrintTo(const NormCase& c, std::ostream* out) { *out << c.rows << " x " << c.width; }
};

class CudaLayerNorm : public KernelTest, public testing::WithParamInterface<NormCase> {};

TEST_P(CudaLayerNorm, IsThatOfPlainLoops) {
  const auto [rows, width, groups, affine, modulated] = GetParam();
  const auto x = normal(rows * width, 3), weight = normal(width), bias = normal(width);
  const auto scale = normal(groups * width), shift = normal(groups * width);
  std::vector<double> expected;
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = &x[size_t(r * width)];
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < width; ++i) mean += row[i] / double(width);
    for (int64_t i = 0; i < width; ++i) variance += (row[i] - mean) * (row[i] - mean) / double(width);
    for (int64_t i = 0; i < width; ++i) {
      const size_t column = size_t(i), grouped = size_t(r / (rows / groups) * width + i);
      double y = (row[i] - mean) / std::sqrt(variance + 1e-6);
      if (affine) y = y * weight[column] + bias[column];
      if (modulated) y = y * (1 + double(scale[grouped])) + shift[grouped];
      expected.push_back(y);
    }
  }
  const DeviceVector<float> dx(x), dweight(weight), dbias(bias), dscale(scale), dshift(shift);
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceVector<uint16_t> out(x.size());
    LayerNormCall call{{dx.data()}, nullptr, nullptr, nullptr, nullptr, rows, width, groups, 1e-6f,
                       {out.data(), ElementType::kBF16}};
    if (affine) {
      call.weight = dweight.data();
      call.bias = dbias.data();
    }
    if (modulated) {
      call.scale = dscale.data();
      call.shift = dshift.data();
    }
    EXPECT_EQ(launch_layer_norm(call, nullptr), 0);
    EXPECT_TRUE(near(widened(out.host()), expected, kBF16Tolerance)) << "order " << order;
  }
}

// Widths that are multiples of 4 and not, below and above a block's threads.
INSTANTIATE_TEST_SUITE_P(Sizes, CudaLayerNorm,
                         testing::Values(NormCase{5, 256, 1, false, true}, NormCase{6, 333, 1, true, false},
                                         NormCase{9, 1540, 3, true, true}, NormCase{2, 5, 2, false, true},
                                         NormCase{1, 1, 1, false, false}));

struct RopeCase {
  int64_t rows, heads, pairs;
  ElementType x_type, out_type;
  bool in_place;

  friend void PrintTo(const RopeCase& c, std::ostream* out) { *out << c.rows << " x " << c.heads << " x " << c.pairs; }
};

class CudaRope : public KernelTest, public testing::WithParamInterface<RopeCase> {};

TEST_P(CudaRope, IsThatOfPlainLoops) {
  const RopeCase& c = GetParam();
  const bool f32_in = c.x_type == ElementType::kF32, f32_out = c.out_type == ElementType::kF32;
  const int64_t values = c.rows * c.heads * c.pairs * 2;
  const auto x = f32_in ? normal(values) : normal_bf16(values), table = normal(c.rows * c.pairs * 2);
  std::vector<double> expected(x.size());
  for (size_t i = 0; i < x.size(); i += 2) {
    const int64_t pair = int64_t(i) / 2;
    const float* angle = &table[size_t((pair / c.pairs / c.heads * c.pairs + pair % c.pairs) * 2)];
    expected[i] = double(x[i]) * angle[0] - double(x[i + 1]) * angle[1];
    expected[i + 1] = double(x[i]) * angle[1] + double(x[i + 1]) * angle[0];
  }
  const DeviceVector<float> dtable(table);
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceVector<float> x_f32(x), out_f32(x.size());
    const DeviceVector<uint16_t> x_bf16(rounded(x)), out_bf16(x.size());
    void* in = f32_in ? static_cast<void*>(x_f32.data()) : x_bf16.data();
    void* out = f32_out ? static_cast<void*>(out_f32.data()) : out_bf16.data();
    if (c.in_place) out = in;
    EXPECT_EQ(launch_rope({{in, c.x_type}, dtable.data(), c.rows, c.heads, c.pairs, {out, c.out_type}}, nullptr), 0);
    if (f32_out) {
      EXPECT_TRUE(near((c.in_place ? x_f32 : out_f32).host(), expected, 1e-6)) << "order " << order;
    } else {
      EXPECT_TRUE(near(widened((c.in_place ? x_bf16 : out_bf16).host()), expected, kBF16Tolerance))
          << "order " << order;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, CudaRope,
                         testing::Values(RopeCase{7, 3, 9, ElementType::kF32, ElementType::kF32, false},
                                         RopeCase{11, 5, 64, ElementType::kBF16, ElementType::kBF16, true},
                                         RopeCase{3, 2, 7, ElementType::kF32, ElementType::kBF16, false},
                                         RopeCase{5, 1, 3, ElementType::kBF16, ElementType::kF32, false}));

}  // namespace
}  // namespace liveavatar::cuda::emulated
