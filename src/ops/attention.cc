#include "ops/attention.h"

#include "core/quantise.h"
#include "ops/checks.h"

namespace liveavatar::ops {

namespace {
// f32 or bf16 values, or 8-bit values with a scale for each row and head.
bool is_keys(const Tensor& t, const Tensor& scale, int64_t heads) {
  if (is_float(t)) return scale.empty();
  return is_8bit(t.dtype) && scale.dtype == DType::kF32 && scale.shape == Shape({t.dim(0), heads});
}
}  // namespace

void attention(Backend& backend, const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
               const Tensor& out) {
  LA_CHECK(on_device(backend, q, out));
  LA_CHECK(is_float(q) && is_float(out) && q.rank() == 2 && out.shape == q.shape && q.dim(1) % spec.heads == 0);
  int64_t keys = 0;
  for (const KeyValues& s : segments) {
    LA_CHECK(s.k.rank() == 2 && s.k.dim(1) == q.dim(1) && s.v.shape == s.k.shape);
    LA_CHECK(is_keys(s.k, s.k_scale, spec.heads) && is_keys(s.v, s.v_scale, spec.heads));
    keys += s.k.dim(0);
  }
  LA_CHECK(keys > 0);
  LA_CHECK(spec.bias.empty() ||
           (spec.bias.dtype == DType::kF32 && spec.bias.shape == Shape({spec.heads, q.dim(0), keys})));
  backend.attention(q, segments, spec, out);
}

}  // namespace liveavatar::ops
