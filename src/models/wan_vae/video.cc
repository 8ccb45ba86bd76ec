#include "models/wan_vae/video.h"

#include <cstring>

namespace liveavatar {

namespace {

// Copies planes between part [C, n, H, W] and whole [C, N, H, W] at plane `begin` of each channel.
void copy_planes(const Tensor& part, const Tensor& whole, int64_t begin, bool into_whole) {
  LA_CHECK(part.rank() == 4 && whole.rank() == 4 && part.dim(0) == whole.dim(0) && part.dim(2) == whole.dim(2));
  LA_CHECK(part.dim(3) == whole.dim(3) && begin >= 0 && begin + part.dim(1) <= whole.dim(1));
  int64_t plane = part.dim(2) * part.dim(3), count = part.dim(1) * plane;
  for (int64_t c = 0; c < part.dim(0); ++c) {
    float* small = part.f32() + c * count;
    float* large = whole.f32() + (c * whole.dim(1) + begin) * plane;
    std::memcpy(into_whole ? large : small, into_whole ? small : large, static_cast<size_t>(count) * sizeof(float));
  }
}

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

void put_planes(const Tensor& source, const Tensor& target, int64_t begin) { copy_planes(source, target, begin, true); }
void get_planes(const Tensor& source, int64_t begin, const Tensor& target) {
  copy_planes(target, source, begin, false);
}

Status encode_frames(VaeEncodeStream& stream, const Tensor& pixels, const Tensor& z, Budget& budget) {
  int64_t latents = latents_of(stream, pixels.dim(1)), height = pixels.dim(2), width = pixels.dim(3);
  if (z.dim(1) != latents) return wrong_count("latents", z, latents);
  Shape chunk_shape{pixels.dim(0), kVaeFrames, height, width}, latent_shape{z.dim(0), 1, z.dim(2), z.dim(3)};
  LA_ASSIGN_OR_RETURN(OwnedTensor chunk, OwnedTensor::allocate(budget, Tenant::kVae, chunk_shape, DType::kF32));
  LA_ASSIGN_OR_RETURN(OwnedTensor latent, OwnedTensor::allocate(budget, Tenant::kVae, latent_shape, DType::kF32));
  for (int64_t i = 0, frame = 0; i < latents; ++i) {
    int64_t frames = stream.next_frames();
    Tensor step_pixels(chunk.tensor.data, {pixels.dim(0), frames, height, width}, DType::kF32);
    get_planes(pixels, frame, step_pixels);
    LA_RETURN_IF_ERROR(stream.step(step_pixels, latent.tensor));
    put_planes(latent.tensor, z, i);
    frame += frames;
  }
  return {};
}

Status decode_latents(VaeDecodeStream& stream, const Tensor& z, const Tensor& frames, Budget& budget) {
  int64_t wanted = frames_of(stream, z.dim(1));
  if (frames.dim(0) != wanted) return wrong_count("frames", frames, wanted);
  Shape latent_shape{z.dim(0), 1, z.dim(2), z.dim(3)};
  LA_ASSIGN_OR_RETURN(OwnedTensor latent, OwnedTensor::allocate(budget, Tenant::kVae, latent_shape, DType::kF32));
  for (int64_t i = 0, done = 0; i < z.dim(1); ++i) {
    get_planes(z, i, latent.tensor);
    LA_ASSIGN_OR_RETURN(int64_t written, stream.step(latent.tensor, frames.slice(done, frames.dim(0) - done)));
    done += written;
  }
  return {};
}

}  // namespace liveavatar
