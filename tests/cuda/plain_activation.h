// Activations as plain double.
#pragma once

#include <algorithm>
#include <cmath>

#include "backend/cuda/kernels.h"

namespace liveavatar::cuda::emulated {

inline double activated(double x, Activation activation) {
  switch (activation) {
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGeluErf:
      return 0.5 * x * (1 + std::erf(x * 0.7071067811865476));
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kNone:
      break;
  }
  return x;
}

}  // namespace liveavatar::cuda::emulated
