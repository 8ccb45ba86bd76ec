#include "ops/linear.h"

#include "ops/checks.h"

namespace liveavatar::ops {

void linear(Backend& backend, const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& epilogue) {
  LA_CHECK(on_device(backend, x, out));
  LA_CHECK(is_float(x) && is_float(out) && last(x) == w.k && last(out) == w.n && w.data != nullptr);
  Tensor rows = x.rows(), out_rows = out.rows();
  LA_CHECK(rows.dim(0) == out_rows.dim(0));
  LA_CHECK(is_vector(w.bias, w.n) && is_groups(epilogue.gate, rows.dim(0), w.n));
  LA_CHECK(epilogue.residual.empty() ||
           (is_float(epilogue.residual) && epilogue.residual.elements() == out.elements()));
  if (rows.dim(0) > 0) backend.linear(rows, w, out_rows, epilogue);
}

}  // namespace liveavatar::ops
