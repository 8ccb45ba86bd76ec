// Loads and stores of single elements as f32, for the reference backend.
#pragma once

#include <algorithm>
#include <cmath>

#include "backend/types.h"
#include "core/status.h"

namespace liveavatar::reference {

inline float load(const Tensor& t, int64_t i) {
  return t.dtype == DType::kF32 ? static_cast<const float*>(t.address())[i]
                                : to_f32(static_cast<const bf16*>(t.address())[i]);
}

inline void store(const Tensor& t, int64_t i, float value) {
  if (t.dtype == DType::kF32) {
    static_cast<float*>(t.address())[i] = value;
  } else {
    static_cast<bf16*>(t.address())[i] = to_bf16(value);
  }
}

inline float weight_at(const void* data, DType dtype, int64_t i) {
  return dtype == DType::kF32 ? static_cast<const float*>(data)[i] : to_f32(static_cast<const bf16*>(data)[i]);
}

inline float activated(float x, Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kGeluTanh:
      return 0.5f * x * (1 + std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    case Activation::kGeluErf:
      return 0.5f * x * (1 + std::erf(x * 0.7071067811865476f));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kRelu:
      return std::max(x, 0.0f);
  }
  return x;
}

}  // namespace liveavatar::reference
