#include "models/wan_vae/video.h"

#include "ops/layout.h"

namespace liveavatar {

namespace {

Status wrong_count(const char* what, const Tensor& got, int64_t wanted) {
  return invalid_argument(std::string(what) + " are " + got.shape.str() + ", there must be " + std::to_string(wanted));
}

}  // namespace

int64_t latents_of(const VaeEncodeStream& stream, int64_t frames) {
  int64_t head = stream.next_frames();
  return frames < head ? 0 : 1 + (frames - head) / kVaeFrames;
}

int64_t frames_of(const VaeDecodeStream& stream, int64_t latents) {
  return latents == 0 ? 0 : stream.next_frames() + (latents - 1) * kVaeFrames;
}

Status encode_frames(VaeEncodeStream& stream, const Tensor& pixels, const Tensor& z, Budget& budget) {
  int64_t latents = latents_of(stream, pixels.dim(1)), height = pixels.dim(2), width = pixels.dim(3);
  if (z.dim(1) != latents) return wrong_count("latents", z, latents);
  Shape chunk_shape{pixels.dim(0), kVaeFrames, height, width}, latent_shape{z.dim(0), 1, z.dim(2), z.dim(3)};
  LA_ASSIGN_OR_RETURN(OwnedTensor chunk, OwnedTensor::allocate(budget, MemoryCategory::kVae, chunk_shape, DType::kF32));
  LA_ASSIGN_OR_RETURN(OwnedTensor latent,
                      OwnedTensor::allocate(budget, MemoryCategory::kVae, latent_shape, DType::kF32));
  for (int64_t i = 0, frame = 0; i < latents; ++i) {
    int64_t frames = stream.next_frames();
    Tensor step_pixels = chunk.tensor.front({pixels.dim(0), frames, height, width});
    ops::copy_frames(stream.backend(), pixels, step_pixels, {frame, 0, frames});
    LA_RETURN_IF_ERROR(stream.step(step_pixels, latent.tensor));
    ops::copy_frames(stream.backend(), latent.tensor, z, {0, i, 1});
    frame += frames;
  }
  return {};
}

Status decode_latents(VaeDecodeStream& stream, const Tensor& z, const Tensor& frames, Budget& budget) {
  int64_t wanted = frames_of(stream, z.dim(1));
  if (frames.dim(0) != wanted) return wrong_count("frames", frames, wanted);
  Shape latent_shape{z.dim(0), 1, z.dim(2), z.dim(3)};
  LA_ASSIGN_OR_RETURN(OwnedTensor latent,
                      OwnedTensor::allocate(budget, MemoryCategory::kVae, latent_shape, DType::kF32));
  for (int64_t i = 0, done = 0; i < z.dim(1); ++i) {
    ops::copy_frames(stream.backend(), z, latent.tensor, {i, 0, 1});
    LA_ASSIGN_OR_RETURN(int64_t written, stream.step(latent.tensor, frames.slice(done, frames.dim(0) - done)));
    done += written;
  }
  return {};
}

}  // namespace liveavatar
