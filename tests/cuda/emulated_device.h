// What tests of kernels share: device memory with its values on the host, random operands, and the comparison with
// plain loops in double.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "backend/cuda/emulate/emulate.h"
#include "backend/cuda/kernels.h"
#include "core/dtype.h"

namespace liveavatar::cuda::emulated {

template <typename T>
class DeviceVector {
 public:
  explicit DeviceVector(size_t count) : size_(count), data_(static_cast<T*>(emulate::allocate(count * sizeof(T)))) {}
  explicit DeviceVector(const std::vector<T>& values) : DeviceVector(values.size()) {
    if (size_ > 0) emulate::copy_to_device(data_, values.data(), size_ * sizeof(T));
  }
  ~DeviceVector() { emulate::release(data_); }
  DeviceVector(const DeviceVector&) = delete;
  DeviceVector& operator=(const DeviceVector&) = delete;

  T* data() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> values(size_);
    emulate::copy_to_host(values.data(), data_, size_ * sizeof(T));
    return values;
  }

 private:
  size_t size_;
  T* data_;
};

inline std::vector<uint16_t> rounded(const std::vector<float>& values) {
  std::vector<uint16_t> out(values.size());
  std::transform(values.begin(), values.end(), out.begin(), [](float x) { return liveavatar::to_bf16(x).bits; });
  return out;
}
inline std::vector<float> widened(const std::vector<uint16_t>& values) {
  std::vector<float> out(values.size());
  std::transform(values.begin(), values.end(), out.begin(), [](uint16_t x) { return to_f32(liveavatar::bf16{x}); });
  return out;
}

constexpr ElementType kF32 = ElementType::kF32, kBF16 = ElementType::kBF16, kI8 = ElementType::kI8,
                      kE4M3 = ElementType::kE4M3, kQ4 = ElementType::kQ4;

// A tensor in f32 or bf16, of values that are rounded if need be.
class DeviceTensor {
 public:
  DeviceTensor(const std::vector<float>& values, ElementType type)
      : type_(type),
        f32_(type == kF32 ? values : std::vector<float>()),
        bf16_(type == kBF16 ? rounded(values) : std::vector<uint16_t>()) {}
  DeviceTensor(int64_t count, ElementType type)
      : type_(type), f32_(type == kF32 ? size_t(count) : 0), bf16_(type == kBF16 ? size_t(count) : 0) {}

  // From element `first` on.
  Input input(int64_t first = 0) const { return {address(first), type_}; }
  Output output(int64_t first = 0) const { return {address(first), type_}; }
  operator Input() const { return input(); }
  operator Output() const { return output(); }
  std::vector<float> host() const { return type_ == kF32 ? f32_.host() : widened(bf16_.host()); }

 private:
  void* address(int64_t first) const {
    if (type_ == kF32) return f32_.data() + first;
    return bf16_.data() + first;
  }

  ElementType type_;
  DeviceVector<float> f32_;
  DeviceVector<uint16_t> bf16_;
};

inline std::vector<float> normal_values(std::mt19937& random, int64_t count, float deviation = 1) {
  std::normal_distribution<float> distribution(0, deviation);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& x : values) x = distribution(random);
  return values;
}

// Every kernel test runs with warps in several orders; the host cannot touch device memory.
class KernelTest : public testing::Test {
 protected:
  static constexpr uint32_t kOrders[] = {0, 1, 2};

  void SetUp() override { emulate::protect_from_host(true); }
  void TearDown() override { emulate::order_seed = 0; }

  std::vector<float> normal(int64_t count, float deviation = 1) { return normal_values(random_, count, deviation); }
  std::vector<float> normal_bf16(int64_t count, float deviation = 1) {
    return widened(rounded(normal(count, deviation)));
  }
  std::vector<float> normal_in(ElementType type, int64_t count, float deviation = 1) {
    return type == ElementType::kF32 ? normal(count, deviation) : normal_bf16(count, deviation);
  }

  std::mt19937 random_{1};
};

// The largest difference is at most `tolerance` times the largest value. A value that is not finite never passes.
inline testing::AssertionResult near(const std::vector<float>& got, const std::vector<double>& expected,
                                     double tolerance) {
  if (got.size() != expected.size()) return testing::AssertionFailure() << "another count of values";
  double worst = 0, largest = 1e-30;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return testing::AssertionFailure() << "wrong result: value " << i << " is " << got[i];
    worst = std::max(worst, std::fabs(got[i] - expected[i]));
    largest = std::max(largest, std::fabs(expected[i]));
  }
  if (worst <= tolerance * largest) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "wrong result: off by " << worst / largest << ", tolerance " << tolerance;
}

constexpr double kF32Tolerance = 1e-5, kBF16Tolerance = 5e-3;  // of outputs in this type
inline double tolerance_of(ElementType out) { return out == ElementType::kF32 ? kF32Tolerance : kBF16Tolerance; }

}  // namespace liveavatar::cuda::emulated
