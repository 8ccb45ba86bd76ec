// Latents in, shown frames out: the streaming VAE decoder primed with the portrait, clamped, rounded to bytes.
#pragma once

#include <memory>
#include <stop_token>
#include <vector>

#include "core/memory.h"
#include "models/wan_vae/wan_vae.h"
#include "session/memory.h"

namespace liveavatar {

// The first frames after the still portrait are not shown; the fourth is held instead.
constexpr int64_t kHeldFrames = 3;

struct DecodeOptions {
  Backend* backend = nullptr;  // instead of the VAE's, which others may use then (VaeDecodeStream::open)
  std::stop_token stop;        // heard between layers
};

// One video. Latents in order; state is carried. Not thread-safe.
class FrameDecoder {
 public:
  // first_latents [16, 7, h, w] f32: the still portrait's first latents; their frames are thrown away. Over a
  // dry-run budget nothing is decoded. Latents of another backend are done before a decoder is given them.
  static Expected<std::unique_ptr<FrameDecoder>> open(const WanVae& vae, const Tensor& first_latents, Budget& budget,
                                                      const DecodeOptions& options = {});

  // Another video of the same size begins, with these first latents: its frames are those of a new decoder.
  Status restart(const Tensor& first_latents);

  // Between two latents, after the first: what later frames depend on.
  Status visit_state(StateVisitor& visitor);

  // Latent `frame` of a block's latents [16, 3, h, w] f32 -> rgb [4, H, W, 3] in host memory, valid until the next
  // call. Of the first one the frames before the fourth repeat the fourth (docs/differences.md).
  Expected<const uint8_t*> decode(const Tensor& latents, int64_t frame);
  // The frames of the last decode() in [-1, 1], as decoded (not held). [4, H, W, 3] f32
  const Tensor& pixels() const { return memory_.pixels.tensor; }
  Backend& backend() const { return *backend_; }

 private:
  FrameDecoder() = default;
  void to_bytes(int64_t first_shown);

  Backend* backend_ = nullptr;

  std::unique_ptr<VaeDecodeStream> stream_;
  DecoderMemory memory_;
  bool first_ = true;
};

}  // namespace liveavatar
