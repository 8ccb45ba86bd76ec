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

// A weight group: weights that are loaded, acquired and evicted as a whole. Small, since a slot holds the largest; and
// what is read once for each timestep, prompt or block is apart from what every forward reads. In the order of use.
enum class DitPart {
  // Before the layers.
  kTime,
  kPromptIn,
  kPromptOut,
  // Of a layer.
  kSelfAttention,
  kSelfOutput,
  kTextKeys,
  kCrossAttention,
  kFfnIn,
  kFfnOut,
  // After some layers. The checkpoint calls it audio_injector.
  kAudioKeys,
  kAudioShift,
  kAudioScale,
  kAudioAttention
};
struct DitWeightGroup {
  DitPart part = DitPart::kSelfAttention;
  int64_t layer = 0;  // of an audio cross-attention: the layer it follows; of kTime: the row of the modulation
};
// When a noisy forward reads a group: always, or where its block's audio, prompt or timestep is new.
enum class DitReading { kAlways, kNewBlock, kNewPrompt, kNewTimestep };
DitReading reading_of(DitPart part);

struct DitTimeWeights {
  static constexpr DitPart kPart = DitPart::kTime;
  LinearWeight project;  // [D, D], one of the rows of time_projection
};
struct DitPromptInWeights {
  static constexpr DitPart kPart = DitPart::kPromptIn;
  LinearWeight in;  // [D, text_dim], text_embedding
};
struct DitPromptOutWeights {
  static constexpr DitPart kPart = DitPart::kPromptOut;
  LinearWeight out;  // [D, D]
};
struct DitSelfAttentionWeights {
  static constexpr DitPart kPart = DitPart::kSelfAttention;
  LinearWeight q, k, v;   // [D, D]
  Tensor norm_q, norm_k;  // f32 [D]
};
struct DitSelfOutputWeights {
  static constexpr DitPart kPart = DitPart::kSelfOutput;
  LinearWeight o;  // [D, D]
};
// Keys and values of a cross-attention.
struct DitKeyWeights {
  LinearWeight k, v;  // [D, D]
  Tensor norm_k;      // f32 [D]
};
struct DitTextKeyWeights : DitKeyWeights {
  static constexpr DitPart kPart = DitPart::kTextKeys;
};
struct DitCrossAttentionWeights {
  static constexpr DitPart kPart = DitPart::kCrossAttention;
  Tensor norm_weight, norm_bias;  // f32 [D]
  LinearWeight q, o;              // [D, D]
  Tensor norm_q;                  // f32 [D]
};
struct DitFfnInWeights {
  static constexpr DitPart kPart = DitPart::kFfnIn;
  LinearWeight in;  // [ffn, D]
};
struct DitFfnOutWeights {
  static constexpr DitPart kPart = DitPart::kFfnOut;
  LinearWeight out;  // [D, ffn]
};
struct DitAudioKeyWeights : DitKeyWeights {
  static constexpr DitPart kPart = DitPart::kAudioKeys;
};
// The two halves of injector_adain_layers.j.linear, [D, D] each.
struct DitAudioShiftWeights {
  static constexpr DitPart kPart = DitPart::kAudioShift;
  LinearWeight shift;
};
struct DitAudioScaleWeights {
  static constexpr DitPart kPart = DitPart::kAudioScale;
  LinearWeight scale;
};
struct DitAudioAttentionWeights {
  static constexpr DitPart kPart = DitPart::kAudioAttention;
  LinearWeight q, o;  // [D, D]
  Tensor norm_q;      // f32 [D]
};
// The weights of one group.
using DitGroupWeights =
    std::variant<DitTimeWeights, DitPromptInWeights, DitPromptOutWeights, DitSelfAttentionWeights, DitSelfOutputWeights,
                 DitTextKeyWeights, DitCrossAttentionWeights, DitFfnInWeights, DitFfnOutWeights, DitAudioKeyWeights,
                 DitAudioShiftWeights, DitAudioScaleWeights, DitAudioAttentionWeights>;

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
  LinearWeight patch, pose_patch;          // [D, 16 * 4]
  LinearWeight pack_1x, pack_2x, pack_4x;  // frame packer
  LinearWeight time_in, time_out;          // [D, 256], [D, D]
  Tensor token_type;                       // f32 [3, D]: an embedding for each TokenType
  std::vector<Tensor> modulation;          // for each layer: f32 [6, D]
  AudioEncoderWeights audio;
  LinearWeight head;       // [16 * 4, D]
  Tensor head_modulation;  // f32 [2, D]
};

struct DitWeights {
  DitCommonWeights common;
  std::vector<DitGroupWeights> groups;  // in the order of dit_weight_groups()
  std::vector<Buffer> buffers;
};

// In the order in which a forward uses them. A prefill skips the audio cross-attention.
std::vector<DitWeightGroup> dit_weight_groups(const DitConfig& config);
DitGroupWeights load_dit_group(const DitConfig& config, const DitWeightGroup& group, WeightVisitor& visitor);
DitCommonWeights load_dit_common(const DitConfig& config, WeightVisitor& visitor);
// Every tensor by its name in the checkpoint, with the shape that loading requires.
std::map<std::string, Shape> dit_tensors(const DitConfig& config, const Backend& backend);

// Loads every tensor by its name in the checkpoint. Errors name the first tensor that is missing or has another shape.
Expected<DitWeights> load_dit_weights(const DitConfig& config, WeightAllocator& loader);

}  // namespace liveavatar
