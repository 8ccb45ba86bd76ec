// The Wan 2.1 video VAE: pixels to latents and back, as streams that carry their own past. One latent is 8 x 8 pixels
// and 4 frames; the first latent of a video is one frame. Memory is that of one step, whatever the length of the video.
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

// The weights, constant once they are loaded. Streams refer to it; it must outlive them, backend and budget must
// outlive it. Streams of one WanVae take turns: a backend runs one op at a time.
class WanVae {
 public:
  // dtype kF32, or kBF16: packed kernels, activations and carried frames in bf16, sums and norms in f32.
  // A missing, misshaped or extra tensor is named in the error. source may die after loading.
  static Expected<std::unique_ptr<WanVae>> load(const TensorSource& source, Backend& backend, Budget& budget,
                                                DType dtype);

  const WanVaeConfig& config() const { return config_; }
  const WanVaeWeights& weights() const { return weights_; }
  Backend& backend() const { return backend_; }
  Budget& budget() const { return budget_; }
  DType dtype() const { return dtype_; }

 private:
  WanVae(Backend& backend, Budget& budget, DType dtype) : backend_(backend), budget_(budget), dtype_(dtype) {}

  Backend& backend_;
  Budget& budget_;
  DType dtype_;
  WanVaeConfig config_;
  WanVaeWeights weights_;
};

// One video being encoded. Not thread-safe.
class VaeEncodeStream {
 public:
  // In pixels, multiples of 8; anything else is kInvalidArgument. kOutOfMemory where the budget has no room.
  static Expected<std::unique_ptr<VaeEncodeStream>> open(const WanVae& vae, int64_t height, int64_t width);

  // pixels [3, frames, H, W] f32 in [-1, 1] -> z [16, 1, H/8, W/8] f32, normalised. The first call takes one frame,
  // every later call four; kInvalidArgument otherwise, and the stream is as before.
  Status step(const Tensor& pixels, const Tensor& z);
  // pixels [3, 4, H, W] of four equal frames -> z, the latent in which that picture, repeated for ever, ends: bit for
  // bit what step gives from still_fixed_latent on, for the price of one. The stream goes on from there.
  Status settle(const Tensor& pixels, const Tensor& z);

  int64_t next_frames() const { return first_ ? 1 : kVaeFrames; }
  Backend& backend() const { return vae_.backend(); }
  void set_observer(VaeObserver observer) { observer_ = std::move(observer); }
  // Heard between layers: kCancelled, and the stream is of no more use.
  void set_stop(std::stop_token stop) { stop_ = std::move(stop); }

 private:
  VaeEncodeStream(const WanVae& vae, int64_t height, int64_t width) : vae_(vae), height_(height), width_(width) {}
  Status run(const Tensor& pixels, const Tensor& z, bool settled);

  const WanVae& vae_;
  int64_t height_, width_;
  Arena arena_;
  VaeMemory memory_;
  VaeObserver observer_;
  std::stop_token stop_;
  bool first_ = true;
};

// One video being decoded. Not thread-safe.
class VaeDecodeStream {
 public:
  // In latents. Errors as VaeEncodeStream::open. backend: instead of the VAE's, of the same device and packing, so that
  // it may decode beside the work of that one.
  static Expected<std::unique_ptr<VaeDecodeStream>> open(const WanVae& vae, int64_t latent_height, int64_t latent_width,
                                                         Backend* backend = nullptr);

  // z [16, 1, h, w] f32 -> the first rows of frames [4, 8h, 8w, 3] f32 (room for next_frames() is enough), clamped to
  // [-1, 1]. Returns how many frames were written: one by the first call, then four. kInvalidArgument for other shapes,
  // and the stream is as before.
  Expected<int64_t> step(const Tensor& z, const Tensor& frames);

  // As step, of a latent whose frames nobody wants to see, nor those of the `left` ones that come before the first that
  // count. Frames after that are the same bits, for some two thirds of the work.
  Status prime(const Tensor& z, int64_t left);

  int64_t next_frames() const { return first_ ? 1 : kVaeFrames; }
  Backend& backend() const { return backend_; }
  // "head" is shown before the clamp.
  void set_observer(VaeObserver observer) { observer_ = std::move(observer); }
  // As VaeEncodeStream's.
  void set_stop(std::stop_token stop) { stop_ = std::move(stop); }

 private:
  VaeDecodeStream(const WanVae& vae, Backend& backend, int64_t height, int64_t width)
      : vae_(vae), backend_(backend), height_(height), width_(width) {}

  const WanVae& vae_;
  Backend& backend_;
  int64_t height_, width_;  // in latents
  Arena arena_;
  VaeMemory memory_;
  VaeObserver observer_;
  std::stop_token stop_;
  bool first_ = true;
};

}  // namespace liveavatar
