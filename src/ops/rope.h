#pragma once
#include "backend/backend.h"
namespace liveavatar::ops {
// Rotates adjacent pairs: (a, b) -> (a cos - b sin, a sin + b cos), the same table for every head.
// x and out [T, heads * d] (may be the same memory), cos_sin f32 [T, d / 2, 2].
void rope(Backend& backend, const Tensor& x, const Tensor& cos_sin, int64_t heads, const Tensor& out);
}  // namespace liveavatar::ops
