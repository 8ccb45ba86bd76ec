#include "session/frame_decoder.h"

#include <algorithm>

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/transfer.h"

namespace liveavatar {

Expected<std::unique_ptr<FrameDecoder>> FrameDecoder::open(const WanVae& vae, const Tensor& first_latents,
                                                           Budget& budget, const DecodeOptions& options) {
  std::unique_ptr<FrameDecoder> decoder(new FrameDecoder);
  int64_t height = first_latents.dim(2), width = first_latents.dim(3);
  LA_ASSIGN_OR_RETURN(decoder->stream_, VaeDecodeStream::open(vae, budget, height, width, options.backend));
  decoder->stream_->set_stop(options.stop);
  Backend& backend = decoder->stream_->backend();
  decoder->backend_ = &backend;
  LA_ASSIGN_OR_RETURN(decoder->memory_, DecoderMemory::allocate(first_latents.dim(0), height, width, budget));
  if (!budget.dry_run()) LA_RETURN_IF_ERROR(decoder->restart(first_latents));
  return decoder;
}

Status FrameDecoder::restart(const Tensor& first_latents) {
  stream_->restart();
  first_ = true;
  for (int64_t f = 0; f < first_latents.dim(1); ++f) {
    ops::copy_frames(*backend_, first_latents, memory_.latent.tensor, {f, 0, 1});
    LA_RETURN_IF_ERROR(stream_->prime(memory_.latent.tensor, first_latents.dim(1) - 1 - f));
  }
  return {};
}

Status FrameDecoder::visit_state(StateVisitor& visitor) {
  first_ = false;
  return stream_->visit_state(visitor);
}

Expected<const uint8_t*> FrameDecoder::decode(const Tensor& latents, int64_t frame) {
  ops::copy_frames(*backend_, latents, memory_.latent.tensor, {frame, 0, 1});
  LA_ASSIGN_OR_RETURN(int64_t frames, stream_->step(memory_.latent.tensor, memory_.pixels.tensor));
  LA_CHECK(frames == kVaeFrames);
  to_bytes(first_ ? kHeldFrames : 0);
  first_ = false;
  const Tensor &rgb = memory_.rgb.tensor, &host = memory_.host_rgb.tensor;
  if (host.empty()) return rgb.host<uint8_t>();
  backend_->download(rgb, host.address());
  LA_RETURN_IF_ERROR(backend_->synchronize());
  return host.host<uint8_t>();
}

void FrameDecoder::to_bytes(int64_t first_shown) {
  for (int64_t f = 0; f < kVaeFrames; ++f)
    ops::to_rgb8(*backend_, memory_.pixels.tensor.slice(std::max(f, first_shown), 1), memory_.rgb.tensor.slice(f, 1));
}

}  // namespace liveavatar
