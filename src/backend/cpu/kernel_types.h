// The op set's types in the words of kernels.h.
#pragma once

#include "backend/cpu/kernels.h"
#include "backend/types.h"
#include "core/status.h"

namespace liveavatar::cpu {

// Of a row that kernels read or write: f32 or bf16.
inline Type type_of(DType t) {
  LA_CHECK(t == DType::kF32 || t == DType::kBF16);
  return t == DType::kF32 ? Type::kF32 : Type::kBF16;
}

constexpr Act act_of(Activation a) {
  switch (a) {
    case Activation::kNone:
      return Act::kNone;
    case Activation::kGeluTanh:
      return Act::kGeluTanh;
    case Activation::kGeluErf:
      return Act::kGeluErf;
    case Activation::kSilu:
      return Act::kSilu;
    case Activation::kRelu:
      return Act::kRelu;
  }
  return Act::kNone;
}

}  // namespace liveavatar::cpu
