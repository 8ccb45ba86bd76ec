#include "ops/rope.h"

#include "ops/checks.h"

namespace liveavatar::ops {

void rope(Backend& backend, const Tensor& x, const Tensor& cos_sin, int64_t heads, const Tensor& out) {
  LA_CHECK(on_device(backend, x, cos_sin, out));
  LA_CHECK(is_float(x) && is_float(out) && x.rank() == 2 && out.shape == x.shape && x.dim(1) % (2 * heads) == 0);
  LA_CHECK(cos_sin.dtype == DType::kF32 && cos_sin.shape == Shape({x.dim(0), x.dim(1) / heads / 2, 2}));
  backend.rope(x, cos_sin, heads, out);
}

}  // namespace liveavatar::ops
