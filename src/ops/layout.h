#pragma once
#include "ops/backend.h"
namespace liveavatar::ops {
// Rows ids[i] of table [V, D] (f32 or bf16) -> out [ids, D].
void embedding(Backend& backend, std::span<const int32_t> ids, const Tensor& table, const Tensor& out);
// x [C, F, H, W] -> out [(F/pf) * (H/ph) * (W/pw), C * pf * ph * pw], tokens in frame, row, column order, features in
// (channel, frame, row, column) order: a strided convolution is this and a linear. Remainders are dropped.
void patchify(Backend& backend, const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out);
// x [F/pf * H/ph * W/pw, pf * ph * pw * C] with features in (frame, row, column, channel) order -> out [C, F, H, W].
void unpatchify(Backend& backend, const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out);
// Linear interpolation along rows, end points aligned: x [T, C] -> out [T', C]; T' = 1 takes row 0.
void interpolate_rows(Backend& backend, const Tensor& x, const Tensor& out);
// x [C, F, H, W] -> out [F, H, W, C] = x * scale + shift, optional f32 [C]. And back.
void channels_last(Backend& backend, const Tensor& x, const Tensor& out, const Tensor& scale = {},
                   const Tensor& shift = {});
void channels_first(Backend& backend, const Tensor& x, const Tensor& out, const Tensor& scale = {},
                    const Tensor& shift = {});
}  // namespace liveavatar::ops
