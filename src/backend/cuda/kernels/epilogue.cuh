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
      return x < 0.0f ? 0.0f : x;  // fmaxf would lose a NaN
    case Activation::kNone:
      break;
  }
  return x;
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
