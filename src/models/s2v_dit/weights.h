// The DiT's weights as named views. Packed for one backend; the bytes belong to DitWeights::buffers.
#pragma once

#include <vector>

#include "core/memory.h"
#include "models/s2v_dit/config.h"
#include "ops/backend.h"
#include "weights/loader.h"

namespace liveavatar {

struct DitAttentionWeights {
  LinearWeight q, k, v, o;  // [D, D]
  Tensor norm_q, norm_k;    // f32 [D]
};

struct DitLayerWeights {
  DitAttentionWeights self_attention, cross_attention;
  Tensor norm3_weight, norm3_bias;  // f32 [D]
  LinearWeight ffn_in, ffn_out;     // [ffn, D], [D, ffn]
  Tensor modulation;                // f32 [6, D]
};

struct AudioInjectorWeights {
  DitAttentionWeights attention;
  LinearWeight adain_shift, adain_scale;  // [D, D] each: the two halves of injector_adain_layers.j.linear
};

struct AudioEncoderWeights {
  Tensor layer_shares;  // f32 [layers], SiLU(w) / sum SiLU(w)
  ConvWeight conv1_local, conv1_global, conv2, conv3;
  LinearWeight final_linear;  // [D, D]
  Tensor padding_token;       // f32 [1, D]
};

struct DitWeights {
  LinearWeight patch, pose_patch;                // [D, 16 * 4]
  LinearWeight pack_1x, pack_2x, pack_4x;        // frame packer
  LinearWeight text_in, text_out;                // [D, text_dim], [D, D]
  LinearWeight time_in, time_out, time_project;  // [D, 256], [D, D], [6 D, D]
  Tensor kind;                                   // f32 [3, D]: noisy, reference, motion
  std::vector<DitLayerWeights> layers;
  std::vector<AudioInjectorWeights> injectors;
  AudioEncoderWeights audio;
  LinearWeight head;       // [16 * 4, D]
  Tensor head_modulation;  // f32 [2, D]
  std::vector<Buffer> buffers;
};

// Takes every tensor by the original's name; errors name the first tensor that is missing or has another shape.
Expected<DitWeights> load_dit_weights(const DitConfig& config, WeightLoader& loader);

}  // namespace liveavatar
