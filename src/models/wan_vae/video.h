// Stretches of video through a stream, many steps a call.
#pragma once

#include "models/wan_vae/wan_vae.h"

namespace liveavatar {

// Latents that `frames` further frames of this stream make; frames that do not fill a step are dropped, as the original
// does.
int64_t latents_of(const VaeEncodeStream& stream, int64_t frames);
// Frames that `latents` further latents of this stream make.
int64_t frames_of(const VaeDecodeStream& stream, int64_t latents);

// pixels [3, F, H, W] f32 -> z [16, latents_of(F), H/8, W/8] f32.
Status encode_frames(VaeEncodeStream& stream, const Tensor& pixels, const Tensor& z, Budget& budget);
// z [16, L, h, w] f32 -> frames [frames_of(L), 8h, 8w, 3] f32.
Status decode_latents(VaeDecodeStream& stream, const Tensor& z, const Tensor& frames, Budget& budget);

}  // namespace liveavatar
