#include "session/pose.h"

#include <algorithm>

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/transfer.h"

namespace liveavatar {

Expected<std::unique_ptr<PoseEncoder>> PoseEncoder::open(const WanVae& vae, Budget& budget, PoseVideo* video,
                                                         const Options& options) {
  std::unique_ptr<PoseEncoder> pose(new PoseEncoder(vae, budget, video, options));
  LA_CHECK(options.clip_frames % kBlockFrames == 0);
  LA_ASSIGN_OR_RETURN(pose->memory_, PoseMemory::allocate(options.shape, vae.config().z_dim, budget));
  LA_RETURN_IF_ERROR(pose->begin_clip());
  return pose;
}

// The encoder's state goes before a fresh one comes, so that only one is held.
Status PoseEncoder::begin_clip() {
  stream_.reset();
  LA_ASSIGN_OR_RETURN(stream_,
                      VaeEncodeStream::open(vae_, budget_, options_.shape.size.height, options_.shape.size.width));
  stream_->set_stop(options_.stop);
  return {};
}

// frame [3, H, W] becomes the video's next one.
Status PoseEncoder::read_frame() {
  const Tensor& frame = memory_.frame.tensor;
  if (video_ended_) return {};
  LA_ASSIGN_OR_RETURN(const Image* image, video_->next());
  if (image != nullptr) {
    fit_float(*image, options_.shape.size, options_.shape.fit, scratch_, Upload(vae_.backend(), frame).f32());
    return {};
  }
  video_ended_ = true;
  if (options_.black_end) ops::fill(vae_.backend(), frame, -1.0f);
  return {};
}

// The frame as the `place`-th of `frames` that are encoded together.
void PoseEncoder::put_frame(int64_t place, int64_t frames) {
  const Tensor& frame = memory_.frame.tensor;
  Tensor pixels = memory_.pixels.tensor.front({3, frames, frame.dim(1), frame.dim(2)});
  ops::copy_frames(vae_.backend(), frame.reshape({3, 1, frame.dim(1), frame.dim(2)}), pixels, {0, place, 1});
  if (observer_) observer_(Download(vae_.backend(), frame).tensor());
}

Status PoseEncoder::encode(int64_t frames) {
  const Tensor& frame = memory_.frame.tensor;
  Tensor pixels = memory_.pixels.tensor.front({3, frames, frame.dim(1), frame.dim(2)});
  return stream_->step(pixels, memory_.latent.tensor);
}

Status PoseEncoder::next_block(const Tensor& latents) {
  if (frames_done_ == options_.clip_frames) {
    LA_RETURN_IF_ERROR(begin_clip());
    frames_done_ = 0;
  }
  for (int64_t latent = 0; latent < kBlockLatents; ++latent) {
    for (int64_t f = 0; f < kVaeFrames; ++f) {
      LA_RETURN_IF_ERROR(read_frame());
      if (frames_done_ == 0) {
        put_frame(0, 1);
        LA_RETURN_IF_ERROR(encode(1));
      }
      put_frame(f, kVaeFrames);
      ++frames_done_;
    }
    LA_RETURN_IF_ERROR(encode(kVaeFrames));
    ops::copy_frames(vae_.backend(), memory_.latent.tensor, latents, {0, latent, 1});
  }
  return {};
}

// Whole clips leave nothing behind but the video's place.
Status PoseEncoder::skip(int64_t blocks, const Tensor& latents) {
  const int64_t clip_blocks = options_.clip_frames / kBlockFrames;
  const int64_t frames = blocks / clip_blocks * options_.clip_frames;
  for (int64_t f = 0; f < frames; ++f) LA_RETURN_IF_ERROR(read_frame());
  for (int64_t b = 0; b < blocks % clip_blocks; ++b) LA_RETURN_IF_ERROR(next_block(latents));
  return {};
}

}  // namespace liveavatar
