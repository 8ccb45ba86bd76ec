// Operands of ops in host memory, and what tests ask of results.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/memory.h"

namespace liveavatar {

// Host memory that lives as long as the test.
class Operands {
 public:
  explicit Operands(uint32_t seed = 1) : random_(seed) {}
  Tensor zeros(Shape shape, DType dtype = DType::kF32) {
    auto owned = OwnedTensor::allocate(budget_, MemoryCategory::kRuntime, shape, dtype);
    tensors_.push_back(*std::move(owned));
    return tensors_.back().tensor;
  }
  Tensor normal(Shape shape, DType dtype = DType::kF32, float scale = 1.0f) {
    Tensor t = zeros(shape, dtype);
    std::normal_distribution<float> normal(0, scale);
    for (int64_t i = 0; i < t.elements(); ++i) {
      float v = normal(random_);
      convert_from_f32(&v, static_cast<char*>(t.address()) + static_cast<size_t>(i) * dtype_bytes(dtype), dtype, 1);
    }
    return t;
  }

 private:
  Budget budget_;
  std::mt19937 random_;
  std::vector<OwnedTensor> tensors_;
};

inline std::vector<float> floats(const Tensor& t) {
  std::vector<float> out(static_cast<size_t>(t.elements()));
  convert_to_f32(t.address(), t.dtype, out.data(), t.elements());
  return out;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.address(), b.address(), a.bytes()) == 0;
}

// Largest difference relative to the largest wanted value. Not finite: infinite.
inline double distance(const Tensor& got, const Tensor& want) {
  std::vector<float> a = floats(got), b = floats(want);
  double worst = 0, largest = 1e-30;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::fabs(a[i]) < 1e30f)) return INFINITY;
    worst = std::max(worst, std::fabs(double(a[i]) - double(b[i])));
    largest = std::max(largest, std::fabs(double(b[i])));
  }
  return worst / largest;
}

}  // namespace liveavatar
