// The VAE's weights as named views, in running order.
#pragma once

#include <optional>
#include <vector>

#include "core/memory.h"
#include "models/wan_vae/config.h"
#include "ops/types.h"
#include "weights/loader.h"

namespace liveavatar {

// norm, SiLU, causal 3x3x3, norm, SiLU, causal 3x3x3, plus x (through a 1x1x1 where the width changes).
struct VaeResBlock {
  Tensor gain1, gain2;  // f32 [C]
  ConvWeight conv1, conv2;
  std::optional<LinearWeight> shortcut;
};

// One head over the pixels of a frame.
struct VaeAttention {
  Tensor gain;
  LinearWeight q, k, v, proj;  // [C, C]
};

struct VaeMiddle {
  VaeResBlock before, after;
  VaeAttention attention;
};

// Encoder: conv (stride 2), then time. Decoder: time, then doubling and conv.
struct VaeResample {
  ConvWeight conv;
  std::optional<ConvWeight> time;         // encoder: [C, C, 3, 1, 1], stride 2
  std::optional<ConvWeight> even, odd;    // decoder: the halves of [2 C, C, 3, 1, 1]: frames 2 i and 2 i + 1
};

struct VaeStage {
  std::vector<VaeResBlock> blocks;
  std::optional<VaeResample> resample;  // behind the blocks; the last stage has none
};

struct VaeEncoderWeights {
  ConvWeight conv_in;
  std::vector<VaeStage> stages;
  VaeMiddle middle;
  Tensor head_gain;
  ConvWeight head;
  LinearWeight to_latent;  // conv1, its first z_dim rows: the mean
};

struct VaeDecoderWeights {
  LinearWeight from_latent;  // conv2
  ConvWeight conv_in;
  VaeMiddle middle;
  std::vector<VaeStage> stages;
  Tensor head_gain;
  ConvWeight head;
};

struct VaeWeights {
  VaeEncoderWeights encoder;
  VaeDecoderWeights decoder;
  Tensor encode_scale, encode_shift, decode_scale, decode_shift;  // f32 [z_dim], the latent normalisation
  std::vector<Buffer> buffers;
};

Expected<VaeWeights> load_vae_weights(const WanVaeConfig& config, WeightLoader& loader);

}  // namespace liveavatar
