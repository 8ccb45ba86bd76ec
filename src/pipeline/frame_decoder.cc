#include "pipeline/frame_decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pipeline/job.h"

namespace liveavatar {

void copy_latent(const Tensor& latents, int64_t frame, const Tensor& out) {
  int64_t channels = latents.dim(0), frames = latents.dim(1), plane = latents.dim(2) * latents.dim(3);
  for (int64_t c = 0; c < channels; ++c) {
    std::memcpy(out.f32() + c * plane, latents.f32() + (c * frames + frame) * plane,
                static_cast<size_t>(plane) * sizeof(float));
  }
}

Expected<std::unique_ptr<FrameDecoder>> FrameDecoder::open(WanVae& vae, const Tensor& first_latents, Budget& budget) {
  std::unique_ptr<FrameDecoder> decoder(new FrameDecoder);
  int64_t height = first_latents.dim(2), width = first_latents.dim(3);
  LA_ASSIGN_OR_RETURN(decoder->stream_, VaeDecodeStream::open(vae, height, width));
  LA_ASSIGN_OR_RETURN(decoder->memory_, DecoderMemory::allocate(first_latents.dim(0), height, width, budget));
  for (int64_t f = 0; f < first_latents.dim(1); ++f) {
    copy_latent(first_latents, f, decoder->memory_.latent.tensor);
    LA_RETURN_IF_ERROR(decoder->stream_->prime(decoder->memory_.latent.tensor, first_latents.dim(1) - 1 - f));
  }
  return decoder;
}

Expected<const uint8_t*> FrameDecoder::decode(const Tensor& latents, int64_t frame) {
  copy_latent(latents, frame, memory_.latent.tensor);
  LA_ASSIGN_OR_RETURN(int64_t frames, stream_->step(memory_.latent.tensor, memory_.pixels.tensor));
  LA_CHECK(frames == kVaeFrames);
  to_bytes(first_ ? kHeldFrames : 0);
  first_ = false;
  return memory_.rgb.tensor.as<uint8_t>();
}

void FrameDecoder::to_bytes(int64_t first_shown) {
  int64_t frame_values = memory_.pixels.tensor.elements() / kVaeFrames;
  for (int64_t f = 0; f < kVaeFrames; ++f) {
    const float* source = memory_.pixels.tensor.f32() + std::max(f, first_shown) * frame_values;
    uint8_t* target = memory_.rgb.tensor.as<uint8_t>() + f * frame_values;
    for (int64_t i = 0; i < frame_values; ++i) {
      float value = std::clamp(source[i], -1.0f, 1.0f);  // NaN stays NaN here and becomes 0 below
      target[i] = value == value ? static_cast<uint8_t>((value + 1) * 127.5f + 0.5f) : uint8_t{0};
    }
  }
}

}  // namespace liveavatar
