// Latents of a video that shows one picture.
#pragma once

#include <span>
#include <stop_token>

#include "models/wan_vae/wan_vae.h"

namespace liveavatar {

constexpr int64_t kStillLatents = 92;   // the original encodes 365 repeats: 1 + 364 / 4 latents
constexpr int64_t kPrimingLatents = 7;  // the first ones, that prime the decoder
constexpr int64_t kMotionLatents = 19;  // the last ones, the motion that came before the first block

// image [3, H, W] f32 in [-1, 1], repeated for ever -> the latents with these indices, [16, latents.size(), H/8, W/8]
// f32. Those that no longer change (still_fixed_latent) cost one step together. The result is charged to
// MemoryCategory::kConditioning. stop is heard between layers.
Expected<OwnedTensor> encode_repeated(const WanVae& vae, const Tensor& image, std::span<const int64_t> latents,
                                      const std::stop_token& stop = {});

struct StillLatents {
  OwnedTensor first;  // [16, 7, h, w] f32; index 1 is the reference latent (of five repeats)
  OwnedTensor last;   // [16, 19, h, w] f32
  static Expected<StillLatents> allocate(const WanVaeConfig& config, const Shape& image, Budget& budget);
};

// What encode_repeated works with, beside its stream. image [3, H, W].
struct StillMemory {
  OwnedTensor result;  // [16, count, h, w] f32
  OwnedTensor pixels;  // [3, 4, H, W] f32
  OwnedTensor latent;  // [16, 1, h, w] f32
  static Expected<StillMemory> allocate(const WanVaeConfig& config, const Shape& image, int64_t count, Budget& budget);
};
// The first 7 and the last 19 of the original's 92 latents. image [3, H, W] f32 in [-1, 1], sides multiples of 8.
Expected<StillLatents> encode_still(const WanVae& vae, const Tensor& image, const std::stop_token& stop = {});

}  // namespace liveavatar
