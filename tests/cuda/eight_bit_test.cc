// Fragments of 8-bit products against plain loops.
#include "backend/cuda/kernels/launches.h"
#include "emulated_device.h"

namespace liveavatar::cuda::emulated {
namespace {

constexpr size_t kDepth = 96;

double from_e4m3(uint8_t byte) {
  const int exponent = byte >> 3 & 15, mantissa = byte & 7;
  const double value = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (byte & 128) != 0 ? -value : value;
}

class CudaEightBit : public KernelTest {
 protected:
  // Rows of kDepth bytes of every value that e4m3 and int8 have in common: no NaN of e4m3.
  template <typename T>
  std::vector<T> bytes(size_t rows) {
    std::vector<T> values(rows * kDepth);
    for (T& x : values) {
      const uint8_t byte = uint8_t(random_());
      x = T((byte & 127) == 127 ? 0 : byte);
    }
    return values;
  }
  // [16, 8] = a [16, kDepth] b [8, kDepth]^T
  template <typename T, typename Value>
  std::vector<double> plain(const std::vector<T>& a, const std::vector<T>& b, const Value& value) {
    std::vector<double> out(16 * 8);
    for (size_t i = 0; i < out.size(); ++i) {
      for (size_t k = 0; k < kDepth; ++k) out[i] += value(a[i / 8 * kDepth + k]) * value(b[i % 8 * kDepth + k]);
    }
    return out;
  }
};

TEST_F(CudaEightBit, ProductOfInt8IsExact) {
  const auto a = bytes<int8_t>(16), b = bytes<int8_t>(8);
  const DeviceVector<int8_t> da(a), db(b);
  const DeviceVector<int> out(16 * 8);
  EXPECT_EQ(launch_product_8bit({da.data(), db.data(), ElementType::kI8, int(kDepth), out.data()}, nullptr), 0);
  const auto got = out.host();
  EXPECT_TRUE(near({got.begin(), got.end()}, plain(a, b, [](int8_t x) { return double(x); }), 0));
}

TEST_F(CudaEightBit, ProductOfE4m3IsThatOfPlainLoops) {
  const auto a = bytes<uint8_t>(16), b = bytes<uint8_t>(8);
  const DeviceVector<uint8_t> da(a), db(b);
  const DeviceVector<float> out(16 * 8);
  EXPECT_EQ(launch_product_8bit({da.data(), db.data(), ElementType::kE4M3, int(kDepth), out.data()}, nullptr), 0);
  EXPECT_TRUE(near(out.host(), plain(a, b, from_e4m3), 1e-6));
}

}  // namespace
}  // namespace liveavatar::cuda::emulated
