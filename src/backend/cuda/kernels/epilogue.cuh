// What follows a product.
#pragma once

#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/device.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

LA_DEVICE float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::kGeluTanh: {
      const float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
      return x * inverse_fast(1.0f + exp2_fast(-2.8853900817779268f * u));  // 0.5 (1 + tanh u) = 1 / (1 + e^-2u)
    }
    case Activation::kGeluErf:
      return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f));
    case Activation::kSilu:
      return x * inverse_fast(1.0f + exp2_fast(-1.4426950408889634f * x));
    case Activation::kRelu:
      return fmaxf(x, 0.0f);
    case Activation::kNone:
      break;
  }
  return x;
}

// Element i of a tensor in f32 or bf16.
LA_DEVICE float load(const Input& x, int64_t i) {
  if (x.type == ElementType::kF32) return static_cast<const float*>(x.data)[i];
  return to_float(static_cast<const bf16*>(x.data)[i]);
}
LA_DEVICE void store(const Output& out, int64_t i, float value) {
  if (out.type == ElementType::kF32) return put(static_cast<float*>(out.data) + i, value);
  put(static_cast<bf16*>(out.data) + i, value);
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
