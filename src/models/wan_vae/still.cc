#include "models/wan_vae/still.h"

#include <algorithm>
#include <vector>

#include "models/wan_vae/video.h"

namespace liveavatar {

Expected<OwnedTensor> encode_repeated(WanVae& vae, const Tensor& image, std::span<const int64_t> latents) {
  if (image.rank() != 3 || image.dim(0) != 3)
    return invalid_argument("picture is " + image.shape.str() + ", not [3, H, W]");
  int64_t height = image.dim(1), width = image.dim(2), z = vae.config().z_dim;
  int64_t rows = height / kVaePixels, columns = width / kVaePixels, count = static_cast<int64_t>(latents.size());
  LA_ASSIGN_OR_RETURN(std::unique_ptr<VaeEncodeStream> stream, VaeEncodeStream::open(vae, height, width));
  auto allocate = [&](Tenant tenant, Shape shape) {
    return OwnedTensor::allocate(vae.budget(), tenant, shape, DType::kF32);
  };
  LA_ASSIGN_OR_RETURN(OwnedTensor result, allocate(Tenant::kConditioning, {z, count, rows, columns}));
  LA_ASSIGN_OR_RETURN(OwnedTensor pixels, allocate(Tenant::kVae, {3, kVaeFrames, height, width}));
  LA_ASSIGN_OR_RETURN(OwnedTensor latent, allocate(Tenant::kVae, {z, 1, rows, columns}));
  Tensor frame = image.reshape({3, 1, height, width});
  for (int64_t f = 0; f < kVaeFrames; ++f) put_planes(frame, pixels.tensor, f);

  int64_t fixed = still_fixed_latent(vae.config()), furthest = 0;
  for (int64_t wanted : latents) furthest = std::max(furthest, std::min(wanted, fixed));
  for (int64_t i = 0; i <= furthest; ++i) {
    LA_RETURN_IF_ERROR(stream->step(i == 0 ? frame : pixels.tensor, latent.tensor));
    for (int64_t j = 0; j < count; ++j) {
      if (std::min(latents[static_cast<size_t>(j)], fixed) == i) put_planes(latent.tensor, result.tensor, j);
    }
  }
  return result;
}

Expected<StillLatents> encode_still(WanVae& vae, const Tensor& image) {
  std::vector<int64_t> wanted;
  for (int64_t i = 0; i < kPrimingLatents; ++i) wanted.push_back(i);
  for (int64_t i = 0; i < kMotionLatents; ++i) wanted.push_back(kStillLatents - kMotionLatents + i);
  LA_ASSIGN_OR_RETURN(OwnedTensor both, encode_repeated(vae, image, wanted));
  const Tensor& all = both.tensor;
  StillLatents still;
  Shape first{all.dim(0), kPrimingLatents, all.dim(2), all.dim(3)},
      last{all.dim(0), kMotionLatents, all.dim(2), all.dim(3)};
  LA_ASSIGN_OR_RETURN(still.first, OwnedTensor::allocate(vae.budget(), Tenant::kConditioning, first, DType::kF32));
  LA_ASSIGN_OR_RETURN(still.last, OwnedTensor::allocate(vae.budget(), Tenant::kConditioning, last, DType::kF32));
  get_planes(all, 0, still.first.tensor);
  get_planes(all, kPrimingLatents, still.last.tensor);
  return still;
}

}  // namespace liveavatar
