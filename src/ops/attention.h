#pragma once
#include "backend/backend.h"
namespace liveavatar::ops {
// softmax(scale * q k^T + bias) v for each head over all segments joined in order; no mask.
// q [Lq, heads * d], k and v [L_i, heads * d] -> out [Lq, heads * d]. Softmax in f32.
void attention(Backend& backend, const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
               const Tensor& out);
}  // namespace liveavatar::ops
