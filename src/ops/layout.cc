#include "ops/layout.h"

#include "ops/checks.h"

namespace liveavatar::ops {

void embedding(Backend& backend, std::span<const int32_t> ids, const Tensor& table, const Tensor& out) {
  LA_CHECK(is_float(table) && is_float(out) && table.rank() == 2 &&
           out.shape == Shape({static_cast<int64_t>(ids.size()), table.dim(1)}));
  for (int32_t id : ids) LA_CHECK(id >= 0 && id < table.dim(0));
  backend.embedding(ids, table, out);
}

void patchify(Backend& backend, const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) {
  LA_CHECK(is_float(x) && is_float(out) && x.rank() == 4 && out.rank() == 2);
  LA_CHECK(out.dim(0) == (x.dim(1) / patch[0]) * (x.dim(2) / patch[1]) * (x.dim(3) / patch[2]));
  LA_CHECK(out.dim(1) == x.dim(0) * patch[0] * patch[1] * patch[2]);
  backend.patchify(x, patch, out);
}

void unpatchify(Backend& backend, const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) {
  LA_CHECK(is_float(x) && is_float(out) && out.rank() == 4 && x.rank() == 2 && x.elements() == out.elements());
  for (int i = 0; i < 3; ++i) LA_CHECK(out.dim(i + 1) % patch[static_cast<size_t>(i)] == 0);
  LA_CHECK(x.dim(1) == out.dim(0) * patch[0] * patch[1] * patch[2]);
  backend.unpatchify(x, patch, out);
}

void interpolate_rows(Backend& backend, const Tensor& x, const Tensor& out) {
  LA_CHECK(is_float(x) && is_float(out) && x.rank() == 2 && out.rank() == 2 && x.dim(1) == out.dim(1) && x.dim(0) > 0);
  backend.interpolate_rows(x, out);
}

void channels_last(Backend& backend, const Tensor& x, const Tensor& out, const Tensor& scale, const Tensor& shift) {
  LA_CHECK(is_float(x) && is_float(out) && x.rank() == 4 &&
           out.shape == Shape({x.dim(1), x.dim(2), x.dim(3), x.dim(0)}));
  LA_CHECK(is_vector(scale, x.dim(0)) && is_vector(shift, x.dim(0)));
  backend.channels_last(x, scale, shift, out);
}

void channels_first(Backend& backend, const Tensor& x, const Tensor& out, const Tensor& scale, const Tensor& shift) {
  LA_CHECK(is_float(x) && is_float(out) && x.rank() == 4 &&
           out.shape == Shape({x.dim(3), x.dim(0), x.dim(1), x.dim(2)}));
  LA_CHECK(is_vector(scale, x.dim(3)) && is_vector(shift, x.dim(3)));
  backend.channels_first(x, scale, shift, out);
}

}  // namespace liveavatar::ops
