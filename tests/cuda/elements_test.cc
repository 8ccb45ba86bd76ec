// Ops on elements, and copies, against plain loops.
#include "backend/cuda/kernels/launches.h"
#include "emulated_device.h"
#include "plain_activation.h"

namespace liveavatar::cuda::emulated {
namespace {

enum class Target { kFresh, kX, kY };

struct BinaryCase {
  int64_t elements, y_elements;
  bool multiply;
  ElementType x, y, out;
  Target target = Target::kFresh;
  int64_t first = 0;  // where the tensors begin in their allocations: 1 is no place for vectors

  friend void PrintTo(const BinaryCase& c, std::ostream* out) { *out << c.elements << ", " << c.y_elements; }
};

class CudaBinary : public KernelTest, public testing::WithParamInterface<BinaryCase> {};

TEST_P(CudaBinary, IsThatOfPlainLoops) {
  const BinaryCase& c = GetParam();
  const auto x = normal_in(c.x, c.elements + c.first), y = normal_in(c.y, c.y_elements + c.first);
  std::vector<double> expected;
  for (int64_t i = 0; i < c.elements; ++i) {
    const double p = x[size_t(c.first + i)], q = y[size_t(c.first + i % c.y_elements)];
    expected.push_back(c.multiply ? p * q : p + 0.625 * q);
  }
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor dx(x, c.x), dy(y, c.y), fresh(c.elements + c.first, c.out);
    const DeviceTensor& out = c.target == Target::kFresh ? fresh : (c.target == Target::kX ? dx : dy);
    EXPECT_EQ(launch_binary({dx.input(c.first), dy.input(c.first), c.elements, c.y_elements, c.multiply, 0.625f,
                             out.output(c.first)},
                            nullptr),
              0);
    const auto got = out.host();
    EXPECT_TRUE(near({got.begin() + c.first, got.end()}, expected, tolerance_of(c.out))) << "order " << order;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, CudaBinary,
    testing::Values(BinaryCase{2052, 2052, false, kF32, kF32, kF32}, BinaryCase{1036, 28, false, kF32, kF32, kBF16},
                    BinaryCase{777, 7, true, kBF16, kF32, kF32}, BinaryCase{301, 301, false, kBF16, kBF16, kBF16},
                    BinaryCase{1200, 6, true, kF32, kBF16, kF32}, BinaryCase{1200, 12, true, kF32, kBF16, kBF16},
                    BinaryCase{516, 516, true, kBF16, kF32, kBF16}, BinaryCase{40, 20, false, kBF16, kBF16, kF32},
                    BinaryCase{1028, 257, false, kF32, kF32, kF32, Target::kX},
                    BinaryCase{1028, 1028, true, kBF16, kF32, kF32, Target::kY},
                    BinaryCase{1028, 1028, false, kBF16, kBF16, kBF16, Target::kX, 1},
                    BinaryCase{1, 1, true, kF32, kF32, kF32}));

struct ActivateCase {
  int64_t elements;
  Activation activation;
  ElementType x, out;
  bool in_place = false;

  friend void PrintTo(const ActivateCase& c, std::ostream* out) { *out << c.elements << ", " << int(c.activation); }
};

class CudaActivate : public KernelTest, public testing::WithParamInterface<ActivateCase> {};

TEST_P(CudaActivate, IsThatOfPlainLoops) {
  const ActivateCase& c = GetParam();
  const auto x = normal_in(c.x, c.elements, 3);
  std::vector<double> expected;
  for (float v : x) expected.push_back(activated(v, c.activation));
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor dx(x, c.x), fresh(c.elements, c.out);
    const DeviceTensor& out = c.in_place ? dx : fresh;
    EXPECT_EQ(launch_activate({dx.input(), c.elements, c.activation, out.output()}, nullptr), 0);
    EXPECT_TRUE(near(out.host(), expected, tolerance_of(c.out))) << "order " << order;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, CudaActivate,
                         testing::Values(ActivateCase{1028, Activation::kNone, kF32, kBF16},
                                         ActivateCase{1027, Activation::kNone, kBF16, kF32},
                                         ActivateCase{515, Activation::kGeluTanh, kF32, kF32},
                                         ActivateCase{516, Activation::kGeluErf, kBF16, kBF16, true},
                                         ActivateCase{2056, Activation::kSilu, kF32, kF32, true},
                                         ActivateCase{33, Activation::kRelu, kBF16, kBF16}));

struct FinishCase {
  int64_t m, n, groups;  // groups: of the gate; 0: none
  Activation activation;
  ElementType out;
  bool bias, residual;
  int64_t first = 0;  // where out begins in its allocation

  friend void PrintTo(const FinishCase& c, std::ostream* out) { *out << c.m << " x " << c.n; }
};

class CudaFinishProduct : public KernelTest, public testing::WithParamInterface<FinishCase> {};

TEST_P(CudaFinishProduct, IsThatOfPlainLoops) {
  const FinishCase& c = GetParam();
  const auto product = normal(c.m * c.n), bias = normal(c.n), gate = normal(c.n * std::max<int64_t>(c.groups, 1));
  const auto residual = normal_in(c.out, c.m * c.n + c.first);
  std::vector<double> expected;
  for (int64_t i = 0; i < c.m * c.n; ++i) {
    const int64_t row = i / c.n, column = i % c.n;
    double y = activated(double(product[size_t(i)]) + (c.bias ? bias[size_t(column)] : 0), c.activation);
    if (c.groups > 0) y *= gate[size_t(row / (c.m / c.groups) * c.n + column)];
    expected.push_back(y + (c.residual ? residual[size_t(c.first + i)] : 0));
  }
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor sum(product, kF32), b(bias, kF32), g(gate, kF32), out(residual, c.out);
    const auto floats = [](const DeviceTensor& t, bool there) {
      return there ? static_cast<const float*>(t.input().data) : nullptr;
    };
    EpilogueCall e{floats(b, c.bias), floats(g, c.groups > 0), std::max<int64_t>(c.groups, 1), {}, c.activation};
    if (c.residual) e.residual = out.input(c.first);
    EXPECT_EQ(launch_finish_product({floats(sum, true), c.m, c.n, e, out.output(c.first)}, nullptr), 0);
    const auto got = out.host();
    EXPECT_TRUE(near({got.begin() + c.first, got.end()}, expected, tolerance_of(c.out))) << "order " << order;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, CudaFinishProduct,
                         testing::Values(FinishCase{12, 40, 1, Activation::kNone, kF32, true, true},
                                         FinishCase{12, 40, 3, Activation::kSilu, kBF16, true, true},
                                         FinishCase{7, 33, 1, Activation::kNone, kF32, true, true},
                                         FinishCase{9, 36, 0, Activation::kGeluTanh, kBF16, true, false},
                                         FinishCase{8, 20, 2, Activation::kNone, kF32, false, true, 1},
                                         FinishCase{1, 1, 0, Activation::kNone, kF32, false, false}));

class CudaElements : public KernelTest {};

TEST_F(CudaElements, ReluKeepsNaN) {
  const DeviceVector<float> x({NAN, -1, 2});
  const DeviceVector<float> out(3);
  EXPECT_EQ(launch_activate({{x.data()}, 3, Activation::kRelu, {out.data()}}, nullptr), 0);
  const auto got = out.host();
  EXPECT_TRUE(std::isnan(got[0])) << "wrong result";
  EXPECT_TRUE(near({got.begin() + 1, got.end()}, {0, 2}, 0));
}

TEST_F(CudaElements, FillWritesEveryElementAndNoMore) {
  for (ElementType type : {kF32, kBF16}) {
    for (int64_t first : {0, 1}) {
      for (int64_t elements : {1, 255, 1028, 1031}) {
        const DeviceTensor out(elements + first, type);
        EXPECT_EQ(launch_fill({out.output(first), elements, -2.5f}, nullptr), 0);
        const auto got = out.host();
        const std::vector<double> expected(size_t(elements), -2.5);
        EXPECT_TRUE(near({got.begin() + first, got.end()}, expected, 0)) << elements << " from " << first;
      }
    }
  }
}

TEST_F(CudaElements, ClampKeepsNaN) {
  for (int64_t elements : {1028, 515}) {
    auto values = normal(elements);
    values[3] = NAN;
    const DeviceVector<float> x(values), out(values.size());
    EXPECT_EQ(launch_clamp({x.data(), elements, -0.5f, 0.25f, out.data()}, nullptr), 0);
    EXPECT_EQ(launch_clamp({x.data(), elements, -0.5f, 0.25f, x.data()}, nullptr), 0);
    for (const auto& got : {out.host(), x.host()}) {
      for (size_t i = 0; i < got.size(); ++i) {
        if (i == 3) {
          EXPECT_TRUE(std::isnan(got[i])) << "wrong result";
        } else {
          EXPECT_EQ(got[i], std::clamp(values[i], -0.5f, 0.25f)) << "wrong result";
        }
      }
    }
  }
}

TEST_F(CudaElements, Rgb8ClampsAndRoundsHalfUp) {
  for (int64_t elements : {1028, 515}) {
    auto values = normal(elements);
    const std::vector<float> special{NAN, -1, 1, -INFINITY, INFINITY, 0, -0.0f, 1 / 255.0f};
    std::copy(special.begin(), special.end(), values.begin());
    std::vector<uint8_t> expected;
    for (float v : values) {
      expected.push_back(std::isnan(v) ? 0 : uint8_t((std::clamp(v, -1.0f, 1.0f) + 1) * 127.5f + 0.5f));
    }
    const DeviceVector<float> x(values);
    const DeviceVector<uint8_t> out(values.size());
    EXPECT_EQ(launch_rgb8({x.data(), elements, out.data()}, nullptr), 0);
    EXPECT_EQ(out.host(), expected) << "wrong result";
  }
}

struct CopyRowsCase {
  int64_t rows, row_bytes, from_stride, to_stride;
  int64_t from_first = 0, to_first = 0;  // bytes

  friend void PrintTo(const CopyRowsCase& c, std::ostream* out) { *out << c.rows << " x " << c.row_bytes; }
};

class CudaCopyRows : public KernelTest, public testing::WithParamInterface<CopyRowsCase> {};

TEST_P(CudaCopyRows, IsThatOfPlainLoops) {
  const CopyRowsCase& c = GetParam();
  std::vector<uint8_t> source(size_t(c.from_first + (c.rows - 1) * c.from_stride + c.row_bytes));
  for (uint8_t& byte : source) byte = uint8_t(random_());
  std::vector<uint8_t> expected(size_t(c.to_first + (c.rows - 1) * c.to_stride + c.row_bytes), uint8_t(7));
  const DeviceVector<uint8_t> from(source);
  const std::vector<uint8_t> before = expected;
  for (int64_t r = 0; r < c.rows; ++r) {
    std::copy_n(&source[size_t(c.from_first + r * c.from_stride)], c.row_bytes,
                &expected[size_t(c.to_first + r * c.to_stride)]);
  }
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceVector<uint8_t> to(before);
    EXPECT_EQ(launch_copy_rows(
                  {from.data() + c.from_first, to.data() + c.to_first, c.from_stride, c.to_stride, c.rows, c.row_bytes},
                  nullptr),
              0);
    EXPECT_EQ(to.host(), expected) << "wrong result, order " << order;
  }
}

// Every unit, limited by a row, a stride or an address; rows that overlap in `from`.
INSTANTIATE_TEST_SUITE_P(Sizes, CudaCopyRows,
                         testing::Values(CopyRowsCase{5, 1040, 2080, 1056}, CopyRowsCase{7, 48, 56, 64},
                                         CopyRowsCase{300, 12, 12, 20}, CopyRowsCase{9, 64, 64, 64, 2, 0},
                                         CopyRowsCase{9, 64, 64, 67}, CopyRowsCase{4, 33, 33, 33},
                                         CopyRowsCase{11, 64, 16, 64}, CopyRowsCase{1, 1, 1, 1, 0, 3}));

TEST_F(CudaElements, RepeatColumnsFillsRows) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{67, 12}, {5, 1028}, {301, 3}, {1, 1}}) {
    const auto values = normal(rows);
    std::vector<double> expected;
    for (float v : values) expected.insert(expected.end(), size_t(width), v);
    const DeviceVector<float> x(values), out(expected.size());
    EXPECT_EQ(launch_repeat_columns({x.data(), rows, width, out.data()}, nullptr), 0);
    EXPECT_TRUE(near(out.host(), expected, 0)) << rows << " x " << width;
  }
}

TEST_F(CudaElements, RelativeBiasIsThatOfPlainLoops) {
  for (const auto& [heads, tokens] : {std::pair<int64_t, int64_t>{3, 20}, {2, 33}, {5, 1}, {1, 4}}) {
    const auto values = normal(heads * (2 * tokens - 1));
    std::vector<double> expected;
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t q = 0; q < tokens; ++q) {
        for (int64_t k = 0; k < tokens; ++k) {
          expected.push_back(values[size_t(h * (2 * tokens - 1) + tokens - 1 + k - q)]);
        }
      }
    }
    const DeviceVector<float> line(values), out(expected.size());
    EXPECT_EQ(launch_relative_bias({line.data(), heads, tokens, out.data()}, nullptr), 0);
    EXPECT_TRUE(near(out.host(), expected, 0)) << heads << " x " << tokens;
  }
}

}  // namespace
}  // namespace liveavatar::cuda::emulated
