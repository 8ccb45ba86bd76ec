// Encodes and decodes several steps of a stream in one call.
#pragma once

#include "models/wan_vae/wan_vae.h"

namespace liveavatar {

// Latents of the next `frames` frames of this stream. Frames that do not fill a step are dropped, as in the original.
int64_t latents_of(const VaeEncodeStream& stream, int64_t frames);
// Frames of the next `latents` latents of this stream.
int64_t frames_of(const VaeDecodeStream& stream, int64_t latents);

// pixels [3, F, H, W] f32 -> z [16, latents_of(F), H/8, W/8] f32.
Status encode_frames(VaeEncodeStream& stream, const Tensor& pixels, const Tensor& z, Budget& budget);
// z [16, L, h, w] f32 -> frames [frames_of(L), 8h, 8w, 3] f32.
Status decode_latents(VaeDecodeStream& stream, const Tensor& z, const Tensor& frames, Budget& budget);

}  // namespace liveavatar
