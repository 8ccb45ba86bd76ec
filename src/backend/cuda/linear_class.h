// Linear layers that are computed alike: of one shape, with operands of the same types and the same epilogue.
#pragma once

#include <optional>
#include <string>

#include "backend/cuda/kernels.h"
#include "backend/types.h"

namespace liveavatar::cuda {

struct LinearClass {
  int64_t m = 0, n = 0, k = 0;
  ElementType out = ElementType::kF32;  // x and w are bf16
  Activation activation = Activation::kNone;
  bool bias = false, gate = false, residual = false;
  bool operator==(const LinearClass&) const = default;
};

// Empty: of a kind that no library is asked for. Weights in 8 bits or less are packed with their scales between rows,
// which only our kernels read.
std::optional<LinearClass> library_class(const LinearSize& size);
std::optional<LinearClass> library_class(const LinearCall& call);

// "linear 792 x 5120 -> 13824, out bf16, bias, gelu_tanh"
std::string describe(const LinearClass& c);

// Whether the own kernels take larger blocks: of 128 rows and columns of out.
constexpr int64_t kLargeBlock = 128;
constexpr bool has_large_blocks(int64_t m, int64_t n) { return m >= kLargeBlock && n >= kLargeBlock; }

}  // namespace liveavatar::cuda
