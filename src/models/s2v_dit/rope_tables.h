// RoPE tables over (frame, row, column). Angles are computed in double from the position, so the video length is not
// limited.
#pragma once

#include <span>

#include "models/s2v_dit/config.h"

namespace liveavatar {

// RoPE table of the noisy tokens of latent frames start..start+block_latents-1 -> cos_sin [block_tokens, d / 2, 2].
void fill_block_rope(const DitConfig& config, const DitGeometry& geometry, int64_t start_latent,
                     std::span<float> cos_sin);

// RoPE table of the sink tokens -> [sink_tokens, d / 2, 2]: the reference at frame 30 + shift, then the motion buckets
// at negative frames (-1; -3; -19, -14, -9, -4), with rows and columns spread over the full grid.
void fill_sink_rope(const DitConfig& config, const DitGeometry& geometry, int64_t shift, std::span<float> cos_sin);

// The shift of the reference's frame position: max(0, start - (30 - relative_dist)).
int64_t sink_shift(int64_t start_latent, int64_t relative_dist);

}  // namespace liveavatar
