#include "ops/attention.h"

#include "ops/checks.h"

namespace liveavatar::ops {

void attention(Backend& backend, const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
               const Tensor& out) {
  LA_CHECK(is_float(q) && is_float(out) && q.rank() == 2 && out.shape == q.shape && q.dim(1) % spec.heads == 0);
  int64_t keys = 0;
  for (const KeyValues& s : segments) {
    LA_CHECK(is_float(s.k) && s.k.dtype == s.v.dtype && s.k.rank() == 2 && s.k.dim(1) == q.dim(1) &&
             s.v.shape == s.k.shape);
    keys += s.k.dim(0);
  }
  LA_CHECK(keys > 0);
  LA_CHECK(spec.bias.empty() ||
           (spec.bias.dtype == DType::kF32 && spec.bias.shape == Shape({spec.heads, q.dim(0), keys})));
  backend.attention(q, segments, spec, out);
}

}  // namespace liveavatar::ops
