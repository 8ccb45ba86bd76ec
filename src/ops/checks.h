// Checks of the callers' contracts. A violation is a bug of the caller.
#pragma once
#include "backend/backend.h"
namespace liveavatar::ops {
inline bool is_float(const Tensor& t) { return t.dtype == DType::kF32 || t.dtype == DType::kBF16; }
// Absent operands match any device.
template <typename... Tensors>
bool on_device(const Backend& backend, const Tensors&... tensors) {
  return ((tensors.empty() || tensors.device == backend.device()) && ...);
}
inline bool is_vector(const Tensor& t, int64_t n) {
  return t.empty() || (t.dtype == DType::kF32 && t.rank() == 1 && t.dim(0) == n);
}
inline bool is_groups(const Tensor& t, int64_t rows, int64_t n) {
  return t.empty() ||
         (t.dtype == DType::kF32 && t.rank() == 2 && t.dim(1) == n && t.dim(0) > 0 && rows % t.dim(0) == 0);
}
inline int64_t last(const Tensor& t) { return t.dim(t.rank() - 1); }
}  // namespace liveavatar::ops
