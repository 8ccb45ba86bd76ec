// Products of 8-bit operands against plain loops: those of int8 to the bit.
#include <optional>

#include "backend/cuda/kernels/launches.h"
#include "packed_weights.h"
#include "plain_activation.h"

namespace liveavatar::cuda::emulated {
namespace {

constexpr Activation kNone = Activation::kNone, kSilu = Activation::kSilu;

struct Linear8bitCase {
  int64_t m, n, k;
  ElementType type = kI8, out = kF32;
  int64_t groups = 0;  // of the gate; 0: no gate
  Activation activation = kNone;
  bool large = false;
  int64_t first_row = 0, rows_after = 0;  // of m that are not computed

  int64_t rows() const { return m - first_row - rows_after; }
  int64_t gate_rows() const { return std::max<int64_t>(groups, 1); }
  DType host_type() const { return type == kI8 ? DType::kI8 : DType::kF8E4M3; }
  friend void PrintTo(const Linear8bitCase& c, std::ostream* out) {
    *out << c.m << " x " << c.n << " x " << c.k << (c.type == kI8 ? " int8" : " e4m3")
         << (c.large ? ", large blocks" : "");
  }
};

// A matrix [rows, k] as 8-bit rows of `row_bytes` bytes, and a scale for each.
struct Rows8bit {
  int64_t row_bytes;
  std::vector<uint8_t> bytes;
  std::vector<float> scale;
};
Rows8bit quantised(const std::vector<float>& values, int64_t k, DType type) {
  const int64_t rows = int64_t(values.size()) / k, row_bytes = (k + 15) / 16 * 16;
  Rows8bit q{row_bytes, std::vector<uint8_t>(size_t(rows * row_bytes)), {}};
  for (int64_t r = 0; r < rows; ++r)
    q.scale.push_back(quantise_8bit(&values[size_t(r * k)], k, type, &q.bytes[size_t(r * row_bytes)]));
  return q;
}

// The residual is out, which therefore has values before.
class Linear8bitOperands {
 public:
  Linear8bitOperands(const Linear8bitCase& c, std::mt19937& random)
      : c_(c),
        w_values_(normal_values(random, c.n * c.k, 0.1f)),
        w_(w_values_, c.n, c.k, c.type),
        w_rows_(quantised(w_values_, c.k, c.host_type())),
        x_(quantised(normal_values(random, c.m * c.k), c.k, c.host_type())),
        bias_(normal_values(random, c.n)),
        gate_(normal_values(random, c.gate_rows() * c.n)),
        before_(DeviceTensor(normal_values(random, c.m * c.n), c.out).host()) {
    const auto first = x_.bytes.begin() + c.first_row * x_.row_bytes;
    x_on_device_.emplace(std::vector<uint8_t>(first, first + c.rows() * x_.row_bytes));
    scale_on_device_.emplace(
        std::vector<float>(x_.scale.begin() + c.first_row, x_.scale.begin() + c.first_row + c.rows()));
  }

  const std::vector<float>& before() const { return before_; }
  double sum(int64_t row, int64_t column) const {
    const uint8_t *x = &x_.bytes[size_t(row * x_.row_bytes)], *w = &w_rows_.bytes[size_t(column * w_rows_.row_bytes)];
    double sum = 0;
    for (int64_t i = 0; i < c_.k; ++i)
      sum += double(decode_8bit(c_.host_type(), x[i])) * decode_8bit(c_.host_type(), w[i]);
    return sum;
  }
  // As the kernel multiplies, rounding for rounding.
  float product(int64_t row, int64_t column) const {
    return float(sum(row, column)) * w_rows_.scale[size_t(column)] * x_.scale[size_t(row)];
  }
  std::vector<double> expected() const {
    std::vector<double> out(before_.begin(), before_.end());
    const auto bias = bias_.host(), gate = gate_.host();
    for (int64_t row = c_.first_row; row < c_.first_row + c_.rows(); ++row) {
      for (int64_t column = 0; column < c_.n; ++column) {
        double y = activated(product(row, column) + double(bias[size_t(column)]), c_.activation);
        if (c_.groups > 0) y *= gate[size_t(row / (c_.m / c_.groups) * c_.n + column)];
        out[size_t(row * c_.n + column)] += y;
      }
    }
    return out;
  }
  Linear8bitCall call(const DeviceTensor& out) const {
    Linear8bitCall call = bare_call(out);
    call.epilogue = {bias_.data(), c_.groups > 0 ? gate_.data() : nullptr, c_.gate_rows(), out, c_.activation};
    return call;
  }
  // Without what follows a product.
  Linear8bitCall bare_call(const DeviceTensor& out) const {
    const EpilogueCall nothing{nullptr, nullptr, 1, {}, kNone};
    return {x_on_device_->data(),
            scale_on_device_->data(),
            w_.matrix(),
            c_.m,
            c_.first_row,
            c_.rows(),
            nothing,
            out,
            c_.large};
  }

 private:
  Linear8bitCase c_;
  std::vector<float> w_values_;
  PackedWeights w_;
  Rows8bit w_rows_, x_;
  std::optional<DeviceVector<uint8_t>> x_on_device_;
  std::optional<DeviceVector<float>> scale_on_device_;
  DeviceVector<float> bias_, gate_;
  std::vector<float> before_;
};

class CudaLinear8bit : public KernelTest, public testing::WithParamInterface<Linear8bitCase> {};

TEST_P(CudaLinear8bit, IsThatOfPlainLoops) {
  const Linear8bitCase& c = GetParam();
  const Linear8bitOperands operands(c, random_);
  const auto expected = operands.expected();
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor out(operands.before(), c.out);
    EXPECT_EQ(launch_linear_8bit(operands.call(out), nullptr), 0);
    EXPECT_EQ(emulate::last_counts.bank_conflicts, 0u);
    EXPECT_TRUE(near(out.host(), expected, tolerance_of(c.out))) << "order " << order;
  }
}

// Sizes below, at and above a block's and a step's; k that is a multiple of 16 and not; some rows of all.
INSTANTIATE_TEST_SUITE_P(Cases, CudaLinear8bit,
                         testing::Values(Linear8bitCase{1, 1, 1}, Linear8bitCase{64, 64, 128},
                                         Linear8bitCase{7, 65, 33, kI8, kBF16},
                                         Linear8bitCase{70, 131, 400, kI8, kF32, 2, kSilu},
                                         Linear8bitCase{128, 128, 384, kI8, kBF16, 0, kNone, true},
                                         Linear8bitCase{132, 200, 150, kI8, kF32, 3, Activation::kGeluTanh, true},
                                         Linear8bitCase{37, 300, 1091, kI8, kF32, 0, kNone, true},
                                         Linear8bitCase{90, 66, 72, kI8, kF32, 9, kSilu, false, 17, 3},
                                         Linear8bitCase{300, 129, 48, kI8, kBF16, 2, kNone, true, 128, 7},
                                         Linear8bitCase{1, 1, 1, kE4M3},
                                         Linear8bitCase{66, 130, 257, kE4M3, kF32, 2, kSilu},
                                         Linear8bitCase{130, 65, 200, kE4M3, kBF16, 0, kNone, true},
                                         Linear8bitCase{20, 70, 260, kE4M3, kF32, 5, kNone, true, 1, 9}));

// Sums beyond the 24 bits of an f32, too; none of a row's bits depends on the other rows or on the shape of blocks.
TEST_F(KernelTest, CudaLinear8bitIsExactInInt8) {
  for (bool large : {false, true}) {
    for (auto [first_row, rows_after] : {std::array<int64_t, 2>{0, 0}, {5, 2}, {69, 0}}) {
      const Linear8bitCase c{70, 67, 3001, kI8, kF32, 0, kNone, large, first_row, rows_after};
      std::mt19937 random(3);
      const Linear8bitOperands operands(c, random);
      const DeviceTensor out(operands.before(), kF32);
      EXPECT_EQ(launch_linear_8bit(operands.bare_call(out), nullptr), 0);
      std::vector<float> expected = operands.before();
      for (int64_t i = first_row * c.n; i < (first_row + c.rows()) * c.n; ++i)
        expected[size_t(i)] = operands.product(i / c.n, i % c.n);
      EXPECT_EQ(out.host(), expected) << "wrong result";
    }
  }
}

// The largest sum of all.
TEST_F(KernelTest, CudaLinear8bitHoldsTheLargestSum) {
  const int64_t k = kMostExactK / 16 * 16;
  const PackedWeights w(std::vector<float>(size_t(k), 127.0f), 1, k, kI8);
  const DeviceVector<int8_t> x(std::vector<int8_t>(size_t(k), int8_t(127)));
  const DeviceVector<float> scale(std::vector<float>{1.0f});
  const DeviceTensor out(1, kF32);
  const EpilogueCall nothing{nullptr, nullptr, 1, {}, kNone};
  EXPECT_EQ(launch_linear_8bit({x.data(), scale.data(), w.matrix(), 1, 0, 1, nothing, out}, nullptr), 0);
  EXPECT_EQ(out.host()[0], float(k * 127 * 127)) << "wrong result";
}

TEST_F(KernelTest, CudaLinear8bitMultipliesEachFragmentOnce) {
  const Linear8bitCase c{64, 64, 128};  // one block of 4 warps, one step
  const Linear8bitOperands operands(c, random_);
  launch_linear_8bit(operands.bare_call({c.m * c.n, kF32}), nullptr);
  const emulate::Counts& counts = emulate::last_counts;
  EXPECT_EQ(counts.products, uint64_t((c.m / 16) * (c.n / 8) * (c.k / 32)));
  EXPECT_EQ(counts.matrix_loads, uint64_t(4 * (c.k / 32) * (2 + 2)));  // a warp, 32 of k: 2 of x, 2 of w
}

}  // namespace
}  // namespace liveavatar::cuda::emulated
