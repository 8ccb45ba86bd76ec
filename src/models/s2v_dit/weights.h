// The DiT's weights as named views, packed for one backend. Buffers elsewhere own the memory.
#pragma once

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "models/s2v_dit/config.h"
#include "weights/loader.h"

namespace liveavatar {

struct DitAttentionWeights {
  LinearWeight q, k, v, o;  // [D, D]
  Tensor norm_q, norm_k;    // f32 [D]
};

// A weight group: weights of a layer that are loaded, acquired and evicted as a whole.
enum class DitPart { kSelfAttention, kCrossAttention, kFfn, kAudioAttention };
struct DitWeightGroup {
  DitPart part = DitPart::kSelfAttention;
  int64_t layer = 0;  // of an audio cross-attention: the layer it follows
};

struct DitSelfAttentionWeights {
  static constexpr DitPart kPart = DitPart::kSelfAttention;
  DitAttentionWeights attention;
};
struct DitCrossAttentionWeights {
  static constexpr DitPart kPart = DitPart::kCrossAttention;
  Tensor norm_weight, norm_bias;  // f32 [D]
  DitAttentionWeights attention;
};
struct DitFfnWeights {
  static constexpr DitPart kPart = DitPart::kFfn;
  LinearWeight in, out;  // [ffn, D], [D, ffn]
};
// Audio cross-attention after a layer. The checkpoint calls it audio_injector.
struct DitAudioAttentionWeights {
  static constexpr DitPart kPart = DitPart::kAudioAttention;
  DitAttentionWeights attention;
  LinearWeight adain_shift, adain_scale;  // [D, D], the two halves of injector_adain_layers.j.linear
};
// The weights of one group.
using DitGroupWeights =
    std::variant<DitSelfAttentionWeights, DitCrossAttentionWeights, DitFfnWeights, DitAudioAttentionWeights>;

struct AudioEncoderWeights {
  Tensor layer_shares;  // f32 [layers], SiLU(w) / sum SiLU(w)
  ConvWeight conv1_local, conv1_global, conv2, conv3;
  LinearWeight final_linear;  // [D, D]
  Tensor padding_token;       // f32 [1, D]
};

// Rows of DitCommonWeights::token_type.
enum class TokenType { kNoisy, kReference, kMotion };

// All weights that are in no group.
struct DitCommonWeights {
  LinearWeight patch, pose_patch;                // [D, 16 * 4]
  LinearWeight pack_1x, pack_2x, pack_4x;        // frame packer
  LinearWeight text_in, text_out;                // [D, text_dim], [D, D]
  LinearWeight time_in, time_out, time_project;  // [D, 256], [D, D], [6 D, D]
  Tensor token_type;                             // f32 [3, D]: an embedding for each TokenType
  std::vector<Tensor> modulation;                // for each layer: f32 [6, D]
  AudioEncoderWeights audio;
  LinearWeight head;       // [16 * 4, D]
  Tensor head_modulation;  // f32 [2, D]
};

struct DitWeights {
  DitCommonWeights common;
  std::vector<DitGroupWeights> groups;  // in the order of dit_weight_groups()
  std::vector<Buffer> buffers;
};

// In the order in which a noisy forward uses them. A prefill skips the audio cross-attention.
std::vector<DitWeightGroup> dit_weight_groups(const DitConfig& config);
DitGroupWeights load_dit_group(const DitConfig& config, const DitWeightGroup& group, WeightVisitor& visitor);
DitCommonWeights load_dit_common(const DitConfig& config, WeightVisitor& visitor);
// Every tensor by its name in the checkpoint, with the shape that loading requires.
std::map<std::string, Shape> dit_tensors(const DitConfig& config, const Backend& backend);

// Loads every tensor by its name in the checkpoint. Errors name the first tensor that is missing or has another shape.
Expected<DitWeights> load_dit_weights(const DitConfig& config, WeightAllocator& loader);

}  // namespace liveavatar
