#include "ops/conv.h"

#include "ops/checks.h"

namespace liveavatar::ops {

Shape conv_shape(const Shape& x, const ConvWeight& w, const ConvGeometry& g) {
  LA_CHECK(x.rank() == 4);
  int64_t history = g.history.empty() ? 0 : g.history.dim(0);
  int64_t up = g.upsample2x ? 2 : 1;
  int64_t frames = g.zero_frames + history + x[0];
  int64_t rows = x[1] * up + g.pad_top + g.pad_bottom;
  int64_t columns = x[2] * up + g.pad_left + g.pad_right;
  LA_CHECK(frames >= w.kernel[0] && rows >= w.kernel[1] && columns >= w.kernel[2]);
  return {(frames - w.kernel[0]) / g.stride[0] + 1, (rows - w.kernel[1]) / g.stride[1] + 1,
          (columns - w.kernel[2]) / g.stride[2] + 1, w.out_channels};
}

void conv(Backend& backend, const Tensor& x, const ConvWeight& w, const ConvGeometry& geometry, const Tensor& out,
          const Epilogue& epilogue) {
  LA_CHECK(on_device(backend, x, out));
  LA_CHECK(is_float(x) && is_float(out) && x.rank() == 4 && x.dim(3) == w.in_channels && w.data != nullptr);
  LA_CHECK(w.in_channels % w.groups == 0 && w.out_channels % w.groups == 0);
  LA_CHECK(out.shape == conv_shape(x.shape, w, geometry) && is_vector(w.bias, w.out_channels));
  const Tensor& history = geometry.history;
  LA_CHECK(history.empty() || (history.rank() == 4 && history.dtype == x.dtype && history.dim(1) == x.dim(1) &&
                               history.dim(2) == x.dim(2) && history.dim(3) == x.dim(3)));
  LA_CHECK(epilogue.gate.empty());
  LA_CHECK(epilogue.residual.empty() || (is_float(epilogue.residual) && epilogue.residual.shape == out.shape));
  backend.conv(x, w, geometry, out, epilogue);
}

}  // namespace liveavatar::ops
