#pragma once
#include "backend/backend.h"
namespace liveavatar::ops {
// out = x + y_factor * y; equal shapes, or y [D] for every row of x [T, D]. out may be x or y.
void add(Backend& backend, const Tensor& x, const Tensor& y, const Tensor& out, float y_factor = 1.0f);
// out = x * y; shapes as in add.
void multiply(Backend& backend, const Tensor& x, const Tensor& y, const Tensor& out);
void activate(Backend& backend, const Tensor& x, Activation activation, const Tensor& out);
// Copies with conversion between f32 and bf16.
void copy(Backend& backend, const Tensor& x, const Tensor& out);
// x [T, heads * d] -> out [T, heads * d] in kI8 or kF8E4M3, and a scale for each row and head: f32 [T, heads]. And
// back.
void quantise(Backend& backend, const Tensor& x, const Tensor& out, const Tensor& scale);
void dequantise(Backend& backend, const Tensor& x, const Tensor& scale, const Tensor& out);
// out = value for all elements.
void fill(Backend& backend, const Tensor& out, float value);
// f32; NaN stays NaN.
void clamp(Backend& backend, const Tensor& x, float low, float high, const Tensor& out);
// x f32 in [-1, 1], clamped, rounded half up -> out u8 0..255; NaN is 0.
void to_rgb8(Backend& backend, const Tensor& x, const Tensor& out);
}  // namespace liveavatar::ops
