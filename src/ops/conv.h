#pragma once
#include "backend/backend.h"
namespace liveavatar::ops {
// Convolution over frames, rows and columns, channels last.
// x [F, H, W, I] -> out [F', H', W', O] with F' = (zero_frames + P + F - kt) / st + 1 (P frames of history),
// H' = (H * u + pad_top + pad_bottom - kh) / sh + 1, W' alike, u = 2 where upsample2x.
// A 1-d convolution over T columns is x [1, 1, T, I]; a 2-d one has kt = 1.
// out = residual + activation(product + bias); no gate.
void conv(Backend& backend, const Tensor& x, const ConvWeight& w, const ConvGeometry& geometry, const Tensor& out,
          const Epilogue& epilogue = {});
// The shape of out.
Shape conv_shape(const Shape& x, const ConvWeight& w, const ConvGeometry& geometry);
}  // namespace liveavatar::ops
