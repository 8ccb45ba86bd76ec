// The Wan 2.1 video VAE: pixels to latents and back, as streams with causal caches. One latent is 8 x 8 pixels and 4
// frames; the first latent of a video is one frame. Memory does not grow with the length of the video.
#pragma once

#include <memory>
#include <stop_token>
#include <utility>

#include "backend/backend.h"
#include "core/memory.h"
#include "models/wan_vae/blocks.h"
#include "models/wan_vae/config.h"
#include "models/wan_vae/memory.h"
#include "models/wan_vae/weights.h"
#include "weights/tensor_source.h"

namespace liveavatar {

// The weights, constant after loading. It outlives its streams; backend and budget outlive it. Streams of one WanVae
// must not run at the same time on one backend, which runs one op at a time. A stream's memory is in its own budget.
class WanVae {
 public:
  // dtype kF32, or kBF16: packed kernels, activations and caches in bf16, accumulation and norms in f32.
  // Errors name the missing, misshaped or extra tensor. source may be destroyed after loading.
  static Expected<std::unique_ptr<WanVae>> load(const TensorSource& source, Backend& backend, Budget& budget,
                                                DType dtype);
  // The memory of load() in a dry-run budget. Without weights: its streams only count memory too.
  static Expected<std::unique_ptr<WanVae>> dry_run(const WanVaeConfig& config, Backend& backend, Budget& budget,
                                                   DType dtype);

  const WanVaeConfig& config() const { return config_; }
  const WanVaeWeights& weights() const { return weights_; }
  Backend& backend() const { return backend_; }
  DType dtype() const { return dtype_; }

 private:
  WanVae(Backend& backend, DType dtype) : backend_(backend), dtype_(dtype) {}

  Backend& backend_;
  DType dtype_;
  WanVaeConfig config_;
  WanVaeWeights weights_;
};

// One video being encoded. Not thread-safe.
class VaeEncodeStream {
 public:
  // In pixels, multiples of 8, else kInvalidArgument. kOutOfMemory if the budget has not enough left.
  static Expected<std::unique_ptr<VaeEncodeStream>> open(const WanVae& vae, Budget& budget, int64_t height,
                                                         int64_t width);

  // pixels [3, frames, H, W] f32 in [-1, 1] -> z [16, 1, H/8, W/8] f32, normalised. The first call takes one frame,
  // every later call four; kInvalidArgument otherwise, and the stream is as before.
  Status step(const Tensor& pixels, const Tensor& z);
  // pixels [3, 4, H, W] of four equal frames -> z, the fixed point of that image repeated without end: the same bits as
  // step() from fixed_point_latent on, for the cost of one step. The stream continues from there.
  Status fixed_point(const Tensor& pixels, const Tensor& z);

  int64_t next_frames() const { return first_ ? 1 : kVaeFrames; }
  Backend& backend() const { return vae_.backend(); }
  void set_observer(VaeObserver observer) { observer_ = std::move(observer); }
  // Checked between layers: kCancelled, and the stream cannot be used any more.
  void set_stop(std::stop_token stop) { stop_ = std::move(stop); }

 private:
  VaeEncodeStream(const WanVae& vae, int64_t height, int64_t width) : vae_(vae), height_(height), width_(width) {}
  Status run(const Tensor& pixels, const Tensor& z, bool at_fixed_point);

  const WanVae& vae_;
  int64_t height_, width_;
  VaeStreamMemory allocated_;
  VaeMemory memory_;
  VaeObserver observer_;
  std::stop_token stop_;
  bool first_ = true;
};

// One video being decoded. Not thread-safe.
class VaeDecodeStream {
 public:
  // In latents. Errors as VaeEncodeStream::open. backend: replaces the VAE's, with the same device and packing, so that
  // decoding can run at the same time as the VAE's backend.
  static Expected<std::unique_ptr<VaeDecodeStream>> open(const WanVae& vae, Budget& budget, int64_t latent_height,
                                                         int64_t latent_width, Backend* backend = nullptr);

  // z [16, 1, h, w] f32 -> the first rows of frames [4, 8h, 8w, 3] f32 (next_frames() rows are sufficient), clamped to
  // [-1, 1]. Returns the number of frames written: one by the first call, then four. kInvalidArgument for other shapes;
  // the stream is not changed then.
  Expected<int64_t> step(const Tensor& z, const Tensor& frames);

  // As step, for a latent whose frames are not needed. `left` more such latents follow. Later frames have the same bits
  // as with step, for about two thirds of the work.
  Status prime(const Tensor& z, int64_t left);

  // Another video of the same size begins, as in a stream that was just opened.
  void restart();
  // Between two steps, after the first: what later frames depend on.
  Status visit_state(StateVisitor& visitor);

  int64_t next_frames() const { return first_ ? 1 : kVaeFrames; }
  Backend& backend() const { return backend_; }
  // "head" is observed before the clamp.
  void set_observer(VaeObserver observer) { observer_ = std::move(observer); }
  // As VaeEncodeStream's.
  void set_stop(std::stop_token stop) { stop_ = std::move(stop); }

 private:
  VaeDecodeStream(const WanVae& vae, Backend& backend, int64_t height, int64_t width)
      : vae_(vae), backend_(backend), height_(height), width_(width) {}

  const WanVae& vae_;
  Backend& backend_;
  int64_t height_, width_;  // in latents
  VaeStreamMemory allocated_;
  VaeMemory memory_;
  VaeObserver observer_;
  std::stop_token stop_;
  bool first_ = true;
};

}  // namespace liveavatar
