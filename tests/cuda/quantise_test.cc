// 8-bit values with scales: the bits of core/quantise.h.
#include "core/quantise.h"

#include <array>

#include "backend/cuda/kernels/launches.h"
#include "emulated_device.h"

namespace liveavatar::cuda::emulated {
namespace {

struct QuantiseCase {
  int64_t rows, heads, head;
  ElementType type, quantised;  // of values, and kI8 or kE4M3
  int64_t first = 0;            // where the tensors begin in their allocations: 1 is no place for vectors

  int64_t elements() const { return rows * heads * head; }
  DType host_type() const { return quantised == ElementType::kI8 ? DType::kI8 : DType::kF8E4M3; }
  friend void PrintTo(const QuantiseCase& c, std::ostream* out) {
    *out << c.rows << " x " << c.heads << " x " << c.head << (c.quantised == ElementType::kI8 ? " int8" : " e4m3");
  }
};

struct Quantised {
  std::vector<uint8_t> bytes;
  std::vector<float> scale;
};

Quantised plain_quantise(const QuantiseCase& c, const std::vector<float>& x) {
  Quantised q{std::vector<uint8_t>(x.size()), {}};
  for (int64_t at = 0; at < c.elements(); at += c.head) {
    q.scale.push_back(quantise_8bit(&x[size_t(at)], c.head, c.host_type(), &q.bytes[size_t(at)]));
  }
  return q;
}

template <typename T>
std::vector<T> behind(int64_t first, std::vector<T> values) {
  values.insert(values.begin(), size_t(first), T{});
  return values;
}

class CudaQuantise : public KernelTest, public testing::WithParamInterface<QuantiseCase> {
 protected:
  Quantised run_quantise(const QuantiseCase& c, const std::vector<float>& values) {
    const DeviceTensor x(behind(c.first, values), c.type);
    const DeviceVector<uint8_t> out(size_t(c.elements() + c.first));
    const DeviceVector<float> scale(size_t(c.rows * c.heads));
    EXPECT_EQ(
        launch_quantise({x.input(c.first), c.rows, c.heads, c.head, {out.data() + c.first, c.quantised}, scale.data()},
                        nullptr),
        0);
    const auto bytes = out.host();
    return {{bytes.begin() + c.first, bytes.end()}, scale.host()};
  }

  std::vector<float> run_dequantise(const QuantiseCase& c, const Quantised& q) {
    const DeviceVector<uint8_t> x(behind(c.first, q.bytes));
    const DeviceVector<float> scale(q.scale);
    const DeviceTensor out(c.elements() + c.first, c.type);
    EXPECT_EQ(
        launch_dequantise(
            {{x.data() + c.first, c.quantised}, scale.data(), c.rows, c.heads, c.head, out.output(c.first)}, nullptr),
        0);
    const auto values = out.host();
    return {values.begin() + c.first, values.end()};
  }
};

TEST_P(CudaQuantise, GivesTheBitsOfTheHost) {
  const QuantiseCase& c = GetParam();
  auto x = normal_in(c.type, c.elements(), 2);
  for (int64_t i = 0; i < c.head; ++i) x[size_t(i)] *= 1e-32f;  // its scale cannot be inverted
  for (size_t i = size_t(c.head); i < x.size(); i += 3) x[i] *= 1.0f / float(1 << (i % 13));  // subnormal e4m3, too
  if (c.type == ElementType::kBF16) x = widened(rounded(x));
  const Quantised expected = plain_quantise(c, x);
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const Quantised got = run_quantise(c, x);
    EXPECT_EQ(got.bytes, expected.bytes) << "wrong result, order " << order;
    EXPECT_EQ(got.scale, expected.scale) << "wrong result, order " << order;
  }
}

TEST_P(CudaQuantise, IsUndoneExactly) {
  const QuantiseCase& c = GetParam();
  Quantised q{std::vector<uint8_t>(size_t(c.elements())), normal(c.rows * c.heads)};
  std::vector<double> expected;
  for (size_t i = 0; i < q.bytes.size(); ++i) {
    q.bytes[i] = (i & 127) == 127 ? uint8_t(0) : uint8_t(i);  // without the NaNs of e4m3
    const float y = q.scale[i / size_t(c.head)] * decode_8bit(c.host_type(), q.bytes[i]);
    expected.push_back(c.type == ElementType::kF32 ? y : to_f32(liveavatar::to_bf16(y)));
  }
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    EXPECT_TRUE(near(run_dequantise(c, q), expected, 0)) << "order " << order;
  }
}

// More and fewer heads than a block's warps; heads of all their vectors and of a tail, shorter than a warp and longer.
INSTANTIATE_TEST_SUITE_P(Sizes, CudaQuantise,
                         testing::Values(QuantiseCase{3, 3, 128, kF32, kI8}, QuantiseCase{3, 3, 128, kBF16, kE4M3},
                                         QuantiseCase{7, 2, 33, kBF16, kI8}, QuantiseCase{2, 5, 67, kF32, kE4M3},
                                         QuantiseCase{2, 8, 140, kF32, kE4M3, 1}, QuantiseCase{5, 1, 20, kBF16, kI8, 2},
                                         QuantiseCase{2, 1, 1, kF32, kI8}, QuantiseCase{1, 2, 260, kF32, kE4M3}));

// Whole vectors and single elements; padding that is longer than a warp's vectors.
TEST_F(CudaQuantise, PadsHeadsWithZeros) {
  for (auto [head, padding] : {std::array<int64_t, 2>{20, 12}, {33, 15}, {8, 152}}) {
    for (ElementType quantised : {kI8, kE4M3}) {
      const QuantiseCase c{3, 2, head, kF32, quantised};
      const auto values = normal(c.elements());
      const Quantised plain = plain_quantise(c, values);
      std::vector<uint8_t> expected(size_t(c.rows * c.heads * (head + padding)));
      for (int64_t at = 0; at < c.rows * c.heads; ++at)
        std::copy_n(&plain.bytes[size_t(at * head)], head, &expected[size_t(at * (head + padding))]);
      const DeviceTensor x(values, kF32);
      const DeviceVector<uint8_t> out(std::vector<uint8_t>(expected.size(), 0xff));
      const DeviceVector<float> scale(plain.scale.size());
      EXPECT_EQ(launch_quantise({x, c.rows, c.heads, head, {out.data(), quantised}, scale.data(), padding}, nullptr),
                0);
      EXPECT_EQ(out.host(), expected) << "wrong result";
      EXPECT_EQ(scale.host(), plain.scale) << "wrong result";
    }
  }
}

// With a scale of 1: halves between all neighbours of e4m3, and what is just below and above them.
TEST_F(CudaQuantise, RoundsEveryE4m3ToNearestEven) {
  std::vector<float> x{448.0f};
  for (uint8_t bits = 0; bits < 0x7e; ++bits) {
    const float half = (decode_8bit(DType::kF8E4M3, bits) + decode_8bit(DType::kF8E4M3, uint8_t(bits + 1))) / 2;
    for (float y : {decode_8bit(DType::kF8E4M3, bits), half, std::nextafter(half, 0.0f), std::nextafter(half, 1e3f)}) {
      x.push_back(y);
      x.push_back(-y);
    }
  }
  const QuantiseCase c{1, 1, int64_t(x.size()), kF32, kE4M3};
  const Quantised expected = plain_quantise(c, x), got = run_quantise(c, x);
  ASSERT_EQ(expected.scale[0], 1.0f);
  EXPECT_EQ(got.bytes, expected.bytes) << "wrong result";
}

TEST_F(CudaQuantise, KeepsTheNaNsOfE4m3) {
  for (float y : run_dequantise({1, 1, 2, kF32, kE4M3}, {{0x7f, 0xff}, {1.0f}})) {
    EXPECT_TRUE(std::isnan(y)) << "wrong result: " << y;
  }
}

}  // namespace
}  // namespace liveavatar::cuda::emulated
