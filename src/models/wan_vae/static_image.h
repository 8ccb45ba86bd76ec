// Latents of a video that shows one static image.
#pragma once

#include <span>
#include <stop_token>

#include "models/wan_vae/wan_vae.h"

namespace liveavatar {

constexpr int64_t kStaticImageLatents = 92;  // the original encodes 365 repeats: 1 + 364 / 4 latents
constexpr int64_t kPrimingLatents = 7;       // the first ones, which prime the decoder
constexpr int64_t kMotionLatents = 19;       // the last ones, the motion before the first block

// image [3, H, W] f32 in [-1, 1], repeated without end -> the latents with these indices, [16, latents.size(), H/8,
// W/8] f32. All latents from fixed_point_latent on are equal and cost one step. The result is charged to
// MemoryCategory::kConditioning. stop is checked between layers. Over a dry-run budget nothing is computed.
Expected<OwnedTensor> encode_repeated(const WanVae& vae, Budget& budget, const Tensor& image,
                                      std::span<const int64_t> latents, const std::stop_token& stop = {});

struct StaticImageLatents {
  OwnedTensor first;  // [16, 7, h, w] f32; index 1 is the reference latent (of five repeats)
  OwnedTensor last;   // [16, 19, h, w] f32
  static Expected<StaticImageLatents> allocate(const WanVaeConfig& config, const Shape& image, Budget& budget);
};

// Memory of encode_repeated, without its stream. image [3, H, W].
struct StaticImageMemory {
  OwnedTensor result;  // [16, count, h, w] f32
  OwnedTensor pixels;  // [3, 4, H, W] f32
  OwnedTensor latent;  // [16, 1, h, w] f32
  static Expected<StaticImageMemory> allocate(const WanVaeConfig& config, const Shape& image, int64_t count,
                                              Budget& budget);
};
// The first 7 and the last 19 of the original's 92 latents. image [3, H, W] f32 in [-1, 1], sides multiples of 8.
Expected<StaticImageLatents> encode_static_image(const WanVae& vae, Budget& budget, const Tensor& image,
                                                 const std::stop_token& stop = {});

}  // namespace liveavatar
