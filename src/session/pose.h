// A pose video as latents, block after block: read, fitted and encoded as blocks are made.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>

#include "media/fit.h"
#include "media/pose_video.h"
#include "models/wan_vae/wan_vae.h"
#include "session/memory.h"

namespace liveavatar {

// Each clip is encoded from a fresh state, with its first frame once more in front, whose latent is dropped; behind the
// video's end its last frame is held. Not thread-safe; VAE, budget and video outlive it.
class PoseEncoder {
 public:
  struct Options {
    PoseShape shape;  // of `video`
    int64_t clip_frames = 48;
    bool black_end = false;  // the original's way behind the video's end
    std::stop_token stop;    // heard between layers
  };
  // video: null over a dry-run budget.
  static Expected<std::unique_ptr<PoseEncoder>> open(const WanVae& vae, Budget& budget, PoseVideo* video,
                                                     const Options& options);

  // Latents of the next block of 12 frames: [16, 3, h, w] f32.
  Status next_block(const Tensor& latents);

  // Before the first block: as if so many had been taken. latents: [16, 3, h, w] f32 to work in.
  Status skip(int64_t blocks, const Tensor& latents);

  // Sees the VAE's input, frame by frame: [3, H, W] f32.
  void set_observer(std::function<void(const Tensor& pixels)> observer) { observer_ = std::move(observer); }

 private:
  PoseEncoder(const WanVae& vae, Budget& budget, PoseVideo* video, const Options& options)
      : vae_(vae), budget_(budget), video_(video), options_(options) {}
  Status begin_clip();
  Status encode(int64_t frames);
  Status read_frame();
  void put_frame(int64_t place, int64_t frames);

  const WanVae& vae_;
  Budget& budget_;
  PoseVideo* video_;
  Options options_;
  PoseMemory memory_;
  std::unique_ptr<VaeEncodeStream> stream_;  // of this clip
  std::vector<float> scratch_;
  bool video_ended_ = false;
  int64_t frames_done_ = 0;
  std::function<void(const Tensor&)> observer_;
};

}  // namespace liveavatar
