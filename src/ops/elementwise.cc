#include "ops/elementwise.h"

#include "core/quantise.h"
#include "ops/checks.h"

namespace liveavatar::ops {

namespace {
void check_quantised(const Tensor& quantised, const Tensor& scale, const Tensor& values) {
  LA_CHECK(is_8bit(quantised.dtype) && is_float(values) && quantised.rank() == 2 && quantised.shape == values.shape);
  LA_CHECK(scale.dtype == DType::kF32 && scale.rank() == 2 && scale.dim(0) == quantised.dim(0) &&
           quantised.dim(1) % scale.dim(1) == 0);
}
void check_pair(const Tensor& x, const Tensor& y, const Tensor& out) {
  LA_CHECK(is_float(x) && is_float(y) && is_float(out) && x.elements() == out.elements());
  LA_CHECK(y.elements() == x.elements() || (y.rank() == 1 && y.dim(0) == last(x)));
}
}  // namespace

void add(Backend& backend, const Tensor& x, const Tensor& y, const Tensor& out, float y_factor) {
  LA_CHECK(on_device(backend, x, y, out));
  check_pair(x, y, out);
  backend.add(x.rows(), y, y_factor, out);
}

void multiply(Backend& backend, const Tensor& x, const Tensor& y, const Tensor& out) {
  LA_CHECK(on_device(backend, x, y, out));
  check_pair(x, y, out);
  backend.multiply(x.rows(), y, out);
}

void activate(Backend& backend, const Tensor& x, Activation activation, const Tensor& out) {
  LA_CHECK(on_device(backend, x, out));
  LA_CHECK(is_float(x) && is_float(out) && x.elements() == out.elements());
  backend.activate(x, activation, out);
}

void copy(Backend& backend, const Tensor& x, const Tensor& out) {
  LA_CHECK(on_device(backend, x, out));
  LA_CHECK(is_float(x) && is_float(out) && x.elements() == out.elements());
  backend.copy(x, out);
}

void quantise(Backend& backend, const Tensor& x, const Tensor& out, const Tensor& scale) {
  LA_CHECK(on_device(backend, x, out, scale));
  check_quantised(out, scale, x);
  backend.quantise(x, out, scale);
}

void dequantise(Backend& backend, const Tensor& x, const Tensor& scale, const Tensor& out) {
  LA_CHECK(on_device(backend, x, scale, out));
  check_quantised(x, scale, out);
  backend.dequantise(x, scale, out);
}

void fill(Backend& backend, const Tensor& out, float value) {
  LA_CHECK(on_device(backend, out));
  LA_CHECK(is_float(out));
  backend.fill(out, value);
}

void clamp(Backend& backend, const Tensor& x, float low, float high, const Tensor& out) {
  LA_CHECK(on_device(backend, x, out));
  LA_CHECK(x.dtype == DType::kF32 && out.dtype == DType::kF32 && x.elements() == out.elements() && low <= high);
  backend.clamp(x, low, high, out);
}

void to_rgb8(Backend& backend, const Tensor& x, const Tensor& out) {
  LA_CHECK(on_device(backend, x, out));
  LA_CHECK(x.dtype == DType::kF32 && out.dtype == DType::kU8 && x.elements() == out.elements());
  backend.to_rgb8(x, out);
}

}  // namespace liveavatar::ops
