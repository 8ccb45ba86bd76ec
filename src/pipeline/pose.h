// A pose video as latents, block after block: read, fitted and encoded as blocks are made.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "media/fit.h"
#include "media/pose_video.h"
#include "models/wan_vae/wan_vae.h"
#include "pipeline/job.h"

namespace liveavatar {

inline FrameRule pose_rule(const Job& job) { return job.original_pose ? FrameRule::kOriginal : FrameRule::kResampled; }

// What the plan must know of a job's pose video; no sides: there is none.
Expected<PoseShape> pose_shape(const Job& job, WorkingSize size);

// A line where the pose video is shorter than a video of `frames` frames: what is shown then. Empty: it is not, or the
// file does not say.
std::string pose_note(const Job& job, int64_t frames);

// Each clip is encoded from a fresh state, with its first frame once more in front, whose latent is dropped; behind the
// video's end its last frame is held (Job::original_pose: black frames). Not thread-safe; the VAE outlives it.
class PoseEncoder {
 public:
  struct Options {
    std::string path;
    FrameRule rule = FrameRule::kResampled;
    Fit fit = Fit::kCover;
    WorkingSize size;
    int64_t clip_frames = 48;
  };
  static Expected<std::unique_ptr<PoseEncoder>> open(const WanVae& vae, Budget& budget, const Options& options);

  // Latents of the next block of 12 frames: [16, 3, h, w] f32.
  Status next_block(const Tensor& latents);

  // Sees the VAE's input, frame by frame: [3, H, W] f32.
  void set_observer(std::function<void(const Tensor& pixels)> observer) { observer_ = std::move(observer); }

 private:
  PoseEncoder(const WanVae& vae, const Options& options) : vae_(vae), options_(options) {}
  Status begin_clip();
  Status encode(int64_t frames);
  Status read_frame();
  void put_frame(int64_t place, int64_t frames);

  const WanVae& vae_;
  Options options_;
  PoseMemory memory_;
  std::unique_ptr<PoseVideo> video_;
  std::unique_ptr<VaeEncodeStream> stream_;  // of this clip
  std::vector<float> scratch_;
  bool video_ended_ = false;
  int64_t frames_done_ = 0;
  std::function<void(const Tensor&)> observer_;
};

}  // namespace liveavatar
