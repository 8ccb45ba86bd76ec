#pragma once
#include "backend/backend.h"
namespace liveavatar::ops {
// x [C, F, H, W] -> out [(F/pf) * (H/ph) * (W/pw), C * pf * ph * pw], tokens in frame, row, column order, features in
// (channel, frame, row, column) order: a strided convolution is this and a linear. Remainders are dropped.
void patchify(Backend& backend, const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out);
// x [F/pf * H/ph * W/pw, pf * ph * pw * C] with features in (frame, row, column, channel) order -> out [C, F, H, W].
void unpatchify(Backend& backend, const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out);
// Frames [from, from + count) of x [C, F, ...] -> frames [to, to + count) of out [C, F', ...]; one type, no overlap.
struct FrameRange {
  int64_t from = 0, to = 0, count = 1;
};
void copy_frames(Backend& backend, const Tensor& x, const Tensor& out, const FrameRange& frames);
// Rows and columns of x [R, C] from a place on -> a place of out [R', C']; one type, no overlap.
struct BlockPlace {
  Tensor tensor;
  int64_t row = 0, column = 0;
};
struct BlockSize {
  int64_t rows = 0, columns = 0;
};
void copy_block(Backend& backend, const BlockPlace& x, const BlockPlace& out, const BlockSize& size);
// x f32 [T] -> out f32 [T, D]: each row is one value.
void repeat_columns(Backend& backend, const Tensor& x, const Tensor& out);
// line f32 [heads, 2 T - 1], by key - query from -(T - 1) on -> out f32 [heads, T, T]: out[h, q, k] = line[h, T - 1 + k
// - q].
void relative_bias(Backend& backend, const Tensor& line, const Tensor& out);
// x [C, F, H, W] -> out [F, H, W, C] = x * scale + shift, optional f32 [C]. And back.
void channels_last(Backend& backend, const Tensor& x, const Tensor& out, const Tensor& scale = {},
                   const Tensor& shift = {});
void channels_first(Backend& backend, const Tensor& x, const Tensor& out, const Tensor& scale = {},
                    const Tensor& shift = {});
}  // namespace liveavatar::ops
