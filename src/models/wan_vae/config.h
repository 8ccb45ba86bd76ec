// Configuration of a Wan 2.1 VAE, and what follows from it: layers in execution order, FLOPs, the reach in time.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "weights/tensor_source.h"

namespace liveavatar {

constexpr int64_t kVaePixels = 8;  // rows and columns of pixels for each latent
constexpr int64_t kVaeFrames = 4;  // frames for each latent; the first latent is one frame

struct WanVaeConfig {
  int64_t dim = 0;                                           // channels at full resolution
  int64_t z_dim = 16;                                        // latent channels
  std::vector<int64_t> dim_mult{1, 2, 4, 4};                 // channels of a stage / dim
  int64_t num_res_blocks = 2;                                // a stage of the encoder; the decoder has one more
  std::vector<bool> temporal_downsample{false, true, true};  // between stages, besides halving rows and columns
  std::vector<float> mean, std;                              // [z_dim] of raw latents; constants of Wan 2.1
};

// From the shapes of the checkpoint's tensors. kCorrupt or kNotFound names the tensor that does not match.
Expected<WanVaeConfig> read_vae_config(const TensorSource& source);

// One numbered module of encoder.downsamples or decoder.upsamples.
struct VaeLayer {
  enum class Kind { kResidual, kDownsample, kUpsample };
  Kind kind = Kind::kResidual;
  int64_t in_channels = 0, out_channels = 0;
  bool temporal = false;  // resampling in time too

  // x [F, H, W, in] -> [F', H', W', out]; F is halved or doubled except in a stream's first step.
  Shape out_shape(const Shape& x) const;
};
std::vector<VaeLayer> encoder_layers(const WanVaeConfig& config);
std::vector<VaeLayer> decoder_layers(const WanVaeConfig& config);

// Latents of a static image are bit-equal from this index on: the reach of every convolution is finite, so the initial
// zeros of the causal caches have no effect after finitely many frames. 28 with two residual blocks for each stage.
int64_t fixed_point_latent(const WanVaeConfig& config);

// Priming fills the decoder's causal caches and computes no frames. With `left` latents before the last one, only this
// many of decoder_layers() have an effect, because later layers have a shorter reach.
size_t priming_layers(const WanVaeConfig& config, int64_t left);

// FLOPs of the decoder for one frame of latent_height x latent_width latents, after the first step.
int64_t decode_flops_per_frame(const WanVaeConfig& config, int64_t latent_height, int64_t latent_width);
// FLOPs of the encoder for one step: 4 frames of height x width pixels to one latent.
int64_t encode_flops_per_latent(const WanVaeConfig& config, int64_t height, int64_t width);

}  // namespace liveavatar
