#pragma once

#include "models/wan_vae/blocks.h"

namespace liveavatar {

// z [z, 1, h, w] f32, normalised -> frames [F, 8h, 8w, 3] f32 in [-1, 1], F = 1 in the first step and 4 after.
void decode_step(const VaeStep& step, const Tensor& z, const Tensor& frames);
// Pushes z into the caches of the first `count` layers (priming_layers), and of the head if these are all layers.
void prime_step(const VaeStep& step, const Tensor& z, size_t count);

}  // namespace liveavatar
