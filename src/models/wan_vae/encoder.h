#pragma once

#include "models/wan_vae/blocks.h"

namespace liveavatar {

// pixels [3, F, H, W] f32, F = 1 in the first step and 4 after -> z [z, 1, H/8, W/8] f32, normalised.
void encode_step(const VaeStep& step, const Tensor& pixels, const Tensor& z);

}  // namespace liveavatar
