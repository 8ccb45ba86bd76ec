// Products with their epilogues against plain loops.
#include <cstring>

#include "backend/cuda/kernels/launches.h"
#include "emulated_device.h"
#include "plain_activation.h"

namespace liveavatar::cuda::emulated {
namespace {

struct GemmCase {
  int64_t m, n, k;
  bool large = false, bias = true, residual = true;
  int64_t groups = 1;  // of the gate; 0: no gate
  Activation activation = Activation::kGeluTanh;
  ElementType out = ElementType::kF32;

  friend void PrintTo(const GemmCase& c, std::ostream* out) {
    *out << c.m << " x " << c.n << " x " << c.k << (c.large ? ", large blocks" : "");
  }
};

int64_t padded(int64_t k) { return (k + 7) / 8 * 8; }

// w [n, k] with rows of w_stride elements. Padding is NaN: it must not count.
std::vector<uint16_t> packed(const std::vector<float>& w, int64_t n, int64_t k) {
  std::vector<uint16_t> out(size_t(n * padded(k)), uint16_t(0x7fc0));
  for (int64_t i = 0; i < n * k; ++i) out[size_t(i / k * padded(k) + i % k)] = liveavatar::to_bf16(w[size_t(i)]).bits;
  return out;
}

struct GemmOperands {
  std::vector<float> x, w, bias, gate, residual;
};

std::vector<double> plain_gemm(const GemmCase& c, const GemmOperands& o) {
  std::vector<double> out;
  for (int64_t r = 0; r < c.m; ++r) {
    for (int64_t column = 0; column < c.n; ++column) {
      double sum = 0;
      for (int64_t i = 0; i < c.k; ++i) sum += double(o.x[size_t(r * c.k + i)]) * o.w[size_t(column * c.k + i)];
      if (c.bias) sum += o.bias[size_t(column)];
      sum = activated(sum, c.activation);
      if (c.groups > 0) sum *= o.gate[size_t(r / (c.m / c.groups) * c.n + column)];
      if (c.residual) sum += o.residual[size_t(r * c.n + column)];
      out.push_back(sum);
    }
  }
  return out;
}

class CudaGemm : public KernelTest, public testing::WithParamInterface<GemmCase> {};

TEST_P(CudaGemm, IsThatOfPlainLoops) {
  const GemmCase& c = GetParam();
  const bool f32 = c.out == ElementType::kF32;
  const int64_t groups = std::max<int64_t>(c.groups, 1);
  const GemmOperands o{normal_bf16(c.m * c.k), normal_bf16(c.n * c.k, 1 / std::sqrt(float(c.k))), normal(c.n),
                       normal(groups * c.n), f32 ? normal(c.m * c.n) : normal_bf16(c.m * c.n)};
  const auto expected = plain_gemm(c, o);
  const DeviceVector<uint16_t> x(rounded(o.x)), w(packed(o.w, c.n, c.k));
  const DeviceVector<float> bias(o.bias), gate(o.gate);
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceVector<float> out_f32(o.residual);  // the residual's memory is out's
    const DeviceVector<uint16_t> out_bf16(rounded(o.residual));
    void* out = f32 ? static_cast<void*>(out_f32.data()) : out_bf16.data();
    EXPECT_EQ(
        launch_gemm_bf16({x.data(), w.data(), c.bias ? bias.data() : nullptr, c.groups > 0 ? gate.data() : nullptr,
                     c.residual ? out : nullptr, out, c.out, c.m, c.n, c.k, padded(c.k), groups, c.activation, c.large},
                    nullptr),
        0);
    EXPECT_EQ(emulate::last_counts.bank_conflicts, 0u);
    EXPECT_TRUE(near(f32 ? out_f32.host() : widened(out_bf16.host()), expected, f32 ? kF32Tolerance : kBF16Tolerance))
        << "order " << order;
  }
}

// Sizes below, at and above a block's; k that is a multiple of 8 and not, so that rows of x are misaligned.
INSTANTIATE_TEST_SUITE_P(
    Sizes, CudaGemm,
    testing::Values(GemmCase{64, 64, 64}, GemmCase{1, 1, 1}, GemmCase{7, 65, 33},
                    GemmCase{13, 130, 96, false, true, false, 0, Activation::kNone},
                    GemmCase{100, 3, 257, false, true, true, 2, Activation::kSilu, ElementType::kBF16},
                    GemmCase{66, 70, 72, false, false, true, 3}, GemmCase{64, 256, 256},
                    GemmCase{130, 140, 200, true, true, true, 2, Activation::kGeluTanh, ElementType::kBF16},
                    GemmCase{37, 300, 1091, true}));

TEST_F(KernelTest, CudaGemmMultipliesEachFragmentOnce) {
  const int64_t size = 64;  // one block of 4 warps, one step
  const DeviceVector<uint16_t> x(rounded(normal(size * size))), w(rounded(normal(size * size)));
  const DeviceVector<float> out(size_t(size * size));
  launch_gemm_bf16({x.data(), w.data(), nullptr, nullptr, nullptr, out.data(), ElementType::kF32, size, size, size, size, 1,
               Activation::kNone, false},
              nullptr);
  const emulate::Counts& counts = emulate::last_counts;
  EXPECT_EQ(counts.blocks, 1u);
  EXPECT_EQ(counts.products, uint64_t((size / 16) * (size / 8) * (size / 16)));
  EXPECT_EQ(counts.matrix_loads, uint64_t(4 * (size / 16) * (2 + 2)));  // a warp, 16 of k: 2 of x, 2 of w
  EXPECT_EQ(counts.barriers, 3u);                                       // the step's, and around acc in shared memory
}

class CudaGemmRow : public KernelTest, public testing::WithParamInterface<bool> {};

TEST_P(CudaGemmRow, HasTheSameBitsAloneAsAmongOthers) {
  const bool large = GetParam();
  const int64_t m = 150, n = 72, k = 200;
  const auto x = rounded(normal(m * k));
  const DeviceVector<uint16_t> w(rounded(normal(n * k)));
  auto run = [&](int64_t first, int64_t rows) {
    const DeviceVector<uint16_t> dx(std::vector<uint16_t>(x.begin() + first * k, x.begin() + (first + rows) * k));
    const DeviceVector<float> out(size_t(rows * n));
    launch_gemm_bf16({dx.data(), w.data(), nullptr, nullptr, nullptr, out.data(), ElementType::kF32, rows, n, k, k, 1,
                 Activation::kNone, large},
                nullptr);
    return out.host();
  };
  const auto all = run(0, m);
  for (int64_t r : {0, 7, 63, 64, 129, 149})
    EXPECT_EQ(std::memcmp(run(r, 1).data(), &all[size_t(r * n)], size_t(n) * sizeof(float)), 0) << "row " << r;
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaGemmRow, testing::Bool());

}  // namespace
}  // namespace liveavatar::cuda::emulated
