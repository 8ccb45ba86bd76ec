#include "models/wan_vae/static_image.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "models/wan_vae/wan_vae.h"
#include "ops/layout.h"

namespace liveavatar {

namespace {

// [16, count, h, w] for an image [3, H, W].
Shape latents_shape(const WanVaeConfig& config, const Shape& image, int64_t count) {
  return {config.z_dim, count, image[1] / kVaePixels, image[2] / kVaePixels};
}

}  // namespace

Expected<StaticImageLatents> StaticImageLatents::allocate(const WanVaeConfig& config, const Shape& image,
                                                          Budget& budget) {
  StaticImageLatents latents;
  auto allocate = [&](int64_t count) {
    return OwnedTensor::allocate(budget, MemoryCategory::kConditioning, latents_shape(config, image, count),
                                 DType::kF32);
  };
  LA_ASSIGN_OR_RETURN(latents.first, allocate(kPrimingLatents));
  LA_ASSIGN_OR_RETURN(latents.last, allocate(kMotionLatents));
  return latents;
}

Expected<StaticImageMemory> StaticImageMemory::allocate(const WanVaeConfig& config, const Shape& image, int64_t count,
                                                        Budget& budget) {
  StaticImageMemory memory;
  auto allocate = [&](MemoryCategory category, Shape shape) {
    return OwnedTensor::allocate(budget, category, shape, DType::kF32);
  };
  LA_ASSIGN_OR_RETURN(memory.result, allocate(MemoryCategory::kConditioning, latents_shape(config, image, count)));
  LA_ASSIGN_OR_RETURN(memory.pixels, allocate(MemoryCategory::kVae, {3, kVaeFrames, image[1], image[2]}));
  LA_ASSIGN_OR_RETURN(memory.latent, allocate(MemoryCategory::kVae, latents_shape(config, image, 1)));
  return memory;
}

Expected<OwnedTensor> encode_repeated(const WanVae& vae, Budget& budget, const Tensor& image,
                                      std::span<const int64_t> latents, const std::stop_token& stop) {
  if (image.rank() != 3 || image.dim(0) != 3)
    return invalid_argument("image is " + image.shape.str() + ", not [3, H, W]");
  int64_t height = image.dim(1), width = image.dim(2), count = static_cast<int64_t>(latents.size());
  LA_ASSIGN_OR_RETURN(std::unique_ptr<VaeEncodeStream> stream, VaeEncodeStream::open(vae, budget, height, width));
  stream->set_stop(stop);
  LA_ASSIGN_OR_RETURN(StaticImageMemory memory, StaticImageMemory::allocate(vae.config(), image.shape, count, budget));
  if (budget.dry_run()) return std::move(memory.result);
  const Tensor &pixels = memory.pixels.tensor, &latent = memory.latent.tensor;
  Tensor frame = image.reshape({3, 1, height, width});
  for (int64_t f = 0; f < kVaeFrames; ++f) ops::copy_frames(vae.backend(), frame, pixels, {0, f, 1});

  auto keep = [&](int64_t first, int64_t last) {  // copies latents first..last to the result
    for (int64_t j = 0; j < count; ++j) {
      int64_t wanted = latents[static_cast<size_t>(j)];
      if (first <= wanted && wanted <= last) ops::copy_frames(vae.backend(), latent, memory.result.tensor, {0, j, 1});
    }
  };
  int64_t fixed = fixed_point_latent(vae.config()), stepped = 0;  // latents before `stepped` take a step each
  for (int64_t wanted : latents)
    if (wanted < fixed) stepped = std::max(stepped, wanted + 1);
  for (int64_t i = 0; i < stepped; ++i) {
    LA_RETURN_IF_ERROR(stream->step(i == 0 ? frame : pixels, latent));
    keep(i, i);
  }
  LA_RETURN_IF_ERROR(stream->fixed_point(pixels, latent));
  keep(fixed, std::numeric_limits<int64_t>::max());
  return std::move(memory.result);
}

Expected<StaticImageLatents> encode_static_image(const WanVae& vae, Budget& budget, const Tensor& image,
                                                 const std::stop_token& stop) {
  std::vector<int64_t> wanted;
  for (int64_t i = 0; i < kPrimingLatents; ++i) wanted.push_back(i);
  for (int64_t i = 0; i < kMotionLatents; ++i) wanted.push_back(kStaticImageLatents - kMotionLatents + i);
  LA_ASSIGN_OR_RETURN(OwnedTensor both, encode_repeated(vae, budget, image, wanted, stop));
  const Tensor& all = both.tensor;
  LA_ASSIGN_OR_RETURN(StaticImageLatents result, StaticImageLatents::allocate(vae.config(), image.shape, budget));
  if (budget.dry_run()) return result;
  ops::copy_frames(vae.backend(), all, result.first.tensor, {0, 0, kPrimingLatents});
  ops::copy_frames(vae.backend(), all, result.last.tensor, {kPrimingLatents, 0, kMotionLatents});
  return result;
}

}  // namespace liveavatar
