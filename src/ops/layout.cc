#include "ops/layout.h"

#include "ops/checks.h"

namespace liveavatar::ops {

void patchify(Backend& backend, const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) {
  LA_CHECK(on_device(backend, x, out));
  LA_CHECK(is_float(x) && is_float(out) && x.rank() == 4 && out.rank() == 2);
  LA_CHECK(out.dim(0) == (x.dim(1) / patch[0]) * (x.dim(2) / patch[1]) * (x.dim(3) / patch[2]));
  LA_CHECK(out.dim(1) == x.dim(0) * patch[0] * patch[1] * patch[2]);
  backend.patchify(x, patch, out);
}

void unpatchify(Backend& backend, const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) {
  LA_CHECK(on_device(backend, x, out));
  LA_CHECK(is_float(x) && is_float(out) && out.rank() == 4 && x.rank() == 2 && x.elements() == out.elements());
  for (int i = 0; i < 3; ++i) LA_CHECK(out.dim(i + 1) % patch[static_cast<size_t>(i)] == 0);
  LA_CHECK(x.dim(1) == out.dim(0) * patch[0] * patch[1] * patch[2]);
  backend.unpatchify(x, patch, out);
}

void copy_frames(Backend& backend, const Tensor& x, const Tensor& out, const FrameRange& r) {
  LA_CHECK(on_device(backend, x, out));
  LA_CHECK(x.rank() >= 2 && x.rank() == out.rank() && x.dtype == out.dtype && x.dim(0) == out.dim(0));
  for (int i = 2; i < x.rank(); ++i) LA_CHECK(x.dim(i) == out.dim(i));
  LA_CHECK(r.from >= 0 && r.to >= 0 && r.from + r.count <= x.dim(1) && r.to + r.count <= out.dim(1));
  int64_t frame = x.elements() / x.dim(0) / x.dim(1);
  backend.copy_rows({x, r.from * frame, x.dim(1) * frame}, {out, r.to * frame, out.dim(1) * frame}, x.dim(0),
                    r.count * frame);
}

void copy_block(Backend& backend, const BlockPlace& x, const BlockPlace& out, const BlockSize& size) {
  LA_CHECK(on_device(backend, x.tensor, out.tensor) && x.tensor.dtype == out.tensor.dtype);
  auto rows_of = [&](const BlockPlace& p) {
    LA_CHECK(p.tensor.rank() == 2 && p.row >= 0 && p.column >= 0);
    LA_CHECK(p.row + size.rows <= p.tensor.dim(0) && p.column + size.columns <= p.tensor.dim(1));
    return StridedRows{p.tensor, p.row * p.tensor.dim(1) + p.column, p.tensor.dim(1)};
  };
  backend.copy_rows(rows_of(x), rows_of(out), size.rows, size.columns);
}

void repeat_columns(Backend& backend, const Tensor& x, const Tensor& out) {
  LA_CHECK(on_device(backend, x, out));
  LA_CHECK(x.dtype == DType::kF32 && out.dtype == DType::kF32 && out.rank() == 2 && out.dim(0) == x.elements());
  backend.repeat_columns(x, out);
}

void relative_bias(Backend& backend, const Tensor& line, const Tensor& out) {
  LA_CHECK(on_device(backend, line, out));
  LA_CHECK(line.dtype == DType::kF32 && out.dtype == DType::kF32 && line.rank() == 2 && out.rank() == 3);
  LA_CHECK(out.dim(0) == line.dim(0) && out.dim(1) == out.dim(2) && line.dim(1) == 2 * out.dim(1) - 1);
  backend.relative_bias(line, out);
}

void channels_last(Backend& backend, const Tensor& x, const Tensor& out, const Tensor& scale, const Tensor& shift) {
  LA_CHECK(on_device(backend, x, out, scale, shift));
  LA_CHECK(is_float(x) && is_float(out) && x.rank() == 4 &&
           out.shape == Shape({x.dim(1), x.dim(2), x.dim(3), x.dim(0)}));
  LA_CHECK(is_vector(scale, x.dim(0)) && is_vector(shift, x.dim(0)));
  backend.channels_last(x, scale, shift, out);
}

void channels_first(Backend& backend, const Tensor& x, const Tensor& out, const Tensor& scale, const Tensor& shift) {
  LA_CHECK(on_device(backend, x, out, scale, shift));
  LA_CHECK(is_float(x) && is_float(out) && x.rank() == 4 &&
           out.shape == Shape({x.dim(3), x.dim(0), x.dim(1), x.dim(2)}));
  LA_CHECK(is_vector(scale, x.dim(3)) && is_vector(shift, x.dim(3)));
  backend.channels_first(x, scale, shift, out);
}

}  // namespace liveavatar::ops
