// Converts the op set's types to those of kernels.h.
#pragma once

#include "backend/cpu/kernels.h"
#include "backend/types.h"
#include "core/status.h"

namespace liveavatar::cpu {

// The type of a row that kernels read or write: f32 or bf16.
inline Type type_of(DType t) {
  LA_CHECK(t == DType::kF32 || t == DType::kBF16);
  return t == DType::kF32 ? Type::kF32 : Type::kBF16;
}

constexpr Activation kernel_activation(liveavatar::Activation a) {
  switch (a) {
    case liveavatar::Activation::kNone:
      return Activation::kNone;
    case liveavatar::Activation::kGeluTanh:
      return Activation::kGeluTanh;
    case liveavatar::Activation::kGeluErf:
      return Activation::kGeluErf;
    case liveavatar::Activation::kSilu:
      return Activation::kSilu;
    case liveavatar::Activation::kRelu:
      return Activation::kRelu;
  }
  return Activation::kNone;
}

}  // namespace liveavatar::cpu
