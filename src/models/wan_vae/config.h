// Shape of a Wan 2.1 VAE, and what follows from it: layers in running order, sums, the reach in time.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "weights/tensor_source.h"

namespace liveavatar {

constexpr int64_t kVaePixels = 8;  // rows and columns of pixels a latent
constexpr int64_t kVaeFrames = 4;  // frames a latent, after the first, which is one frame

struct WanVaeConfig {
  int64_t dim = 0;                                           // channels at full resolution
  int64_t z_dim = 16;                                        // latent channels
  std::vector<int64_t> dim_mult{1, 2, 4, 4};                 // channels of a stage / dim
  int64_t num_res_blocks = 2;                                // a stage of the encoder; the decoder has one more
  std::vector<bool> temporal_downsample{false, true, true};  // between stages, besides halving rows and columns
  std::vector<float> mean, std;                              // [z_dim] of raw latents; constants of Wan 2.1
};

// From the shapes of the checkpoint's tensors. kCorrupt or kNotFound names the tensor that does not fit.
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

// Latents of a picture repeated for ever are bit-equal from this index on: every convolution sees a finite past, so
// the encoder forgets its zero history after finitely many frames. 28 with two residual blocks a stage.
int64_t still_fixed_latent(const WanVaeConfig& config);

// A decoder that is primed throws its frames away; what stays is what its convolutions remember of them. `left` latents
// before the last one, only this many of decoder_layers() matter to that: the later ones look back less far.
size_t priming_layers(const WanVaeConfig& config, int64_t left);

// Multiplications and additions that the decoder spends on one frame of latent_height x latent_width latents, in the
// steady state.
int64_t decode_flops_per_frame(const WanVaeConfig& config, int64_t latent_height, int64_t latent_width);
// The encoder's for one step: 4 frames of height x width pixels into one latent.
int64_t encode_flops_per_latent(const WanVaeConfig& config, int64_t height, int64_t width);

}  // namespace liveavatar
