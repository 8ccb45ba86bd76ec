#include "ops/norm.h"

#include "ops/checks.h"

namespace liveavatar::ops {

namespace {
void check_norm(const Tensor& x, const Tensor& out) {
  LA_CHECK(is_float(x) && is_float(out) && x.elements() == out.elements() && last(x) == last(out));
}
}  // namespace

void layer_norm(Backend& backend, const Tensor& x, float eps, const Tensor& out, const Modulation& m) {
  LA_CHECK(on_device(backend, x, out));
  check_norm(x, out);
  LA_CHECK(m.shift.empty() == m.scale.empty());
  LA_CHECK(is_groups(m.shift, x.rows().dim(0), last(x)) && is_groups(m.scale, x.rows().dim(0), last(x)));
  LA_CHECK(m.shift.empty() || m.shift.shape == m.scale.shape);
  backend.layer_norm(x.rows(), eps, {}, {}, m, out.rows());
}

void layer_norm_affine(Backend& backend, const Tensor& x, float eps, const Tensor& weight, const Tensor& bias,
                       const Tensor& out) {
  LA_CHECK(on_device(backend, x, weight, bias, out));
  check_norm(x, out);
  LA_CHECK(!weight.empty() && is_vector(weight, last(x)) && is_vector(bias, last(x)));
  backend.layer_norm(x.rows(), eps, weight, bias, {}, out.rows());
}

void rms_norm(Backend& backend, const Tensor& x, float eps, const Tensor& gain, const Tensor& out) {
  LA_CHECK(on_device(backend, x, gain, out));
  check_norm(x, out);
  LA_CHECK(!gain.empty() && is_vector(gain, last(x)));
  backend.rms_norm(x.rows(), eps, gain, out.rows());
}

void channel_norm(Backend& backend, const Tensor& x, const Tensor& gain, Activation activation, const Tensor& out) {
  LA_CHECK(on_device(backend, x, gain, out));
  check_norm(x, out);
  LA_CHECK(!gain.empty() && is_vector(gain, last(x)));
  backend.channel_norm(x.rows(), gain, activation, out.rows());
}

}  // namespace liveavatar::ops
