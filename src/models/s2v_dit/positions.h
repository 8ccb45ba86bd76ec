// Rotary positions over (frame, row, column). Angles are computed from the position in double: there is no table to run
// off.
#pragma once

#include <span>

#include "models/s2v_dit/config.h"

namespace liveavatar {

// Turns for noisy tokens of latent frames start..start+block_latents-1 -> cos_sin [block tokens, d / 2, 2].
void fill_block_positions(const DitConfig& config, const DitGeometry& geometry, int64_t start_latent,
                          std::span<float> cos_sin);

// Turns for the cond tokens -> [cond tokens, d / 2, 2]: reference at time 30 + shift, then the motion buckets at
// negative times (1; 3; 19, 14, 9, 4 latents back), rows and columns spread over the full grid.
void fill_cond_positions(const DitConfig& config, const DitGeometry& geometry, int64_t shift, std::span<float> cos_sin);

// How far the reference moves along with the video: max(0, start - (30 - relative_dist)).
int64_t sink_shift(int64_t start_latent, int64_t relative_dist);

}  // namespace liveavatar
