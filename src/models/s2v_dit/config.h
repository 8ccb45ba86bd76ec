// Hyper-parameters of the causal S2V DiT, and the token counts that follow from the image size.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/rounding.h"
#include "core/status.h"
#include "models/s2v_dit/share.h"
#include "weights/tensor_source.h"

namespace liveavatar {

// Types of values: one type for all, or a smaller one for large tensors.
struct DitTypes {
  DType values = DType::kBF16;   // activations and small weights: kF32 or kBF16
  DType weights = DType::kBF16;  // matrices of the layers: also kI8, kF8E4M3, kQ4
  DType kv = DType::kBF16;       // KV caches and sink: as values, kI8 or kF8E4M3
  DitTypes(DType all) : values(all), weights(all), kv(all) {}
  operator WeightTypes() const { return {values, weights}; }
};

// config.json of the checkpoint (diffusers style). 14B: dim 5120, heads 40, ffn 13824, 40 layers.
struct DitConfig {
  int64_t dim = 0, heads = 0, layers = 0, ffn_dim = 0;
  int64_t freq_dim = 256;  // width of the timestep sinusoid
  int64_t text_dim = 4096, text_len = 512;
  int64_t audio_dim = 1024;   // width of a wav2vec2 hidden state
  int64_t audio_layers = 25;  // hidden states; read from the tensors
  int64_t audio_tokens = 4;   // local tokens for each latent frame, without the padding token
  int64_t channels = 16;      // of a latent
  float eps = 1e-6f;
  std::vector<int64_t> audio_inject_layers;
  std::string video_size;  // "liveavatar_size": size of the training videos, as "704*384"; empty: unknown

  int64_t head_dim() const { return dim / heads; }
  // With a rank's heads alone: of what is kept for the self-attention.
  DitConfig of_own_heads(const RankShare& share) const {
    DitConfig own = *this;
    own.heads = share.of(heads).count;
    own.dim = own.heads * head_dim();
    return own;
  }
  // Index of the audio cross-attention after this layer; -1: none.
  int64_t audio_attention_of(int64_t layer) const;
};

// Errors name the file, the key and what it should be.
Expected<DitConfig> read_dit_config(const std::string& json_path);
Expected<DitConfig> parse_dit_config(const std::string& json_text, const std::string& where);
// What the shapes of a model's tensors tell when there is no config.json: config without heads, audio_inject_layers,
// text_len and eps.
struct DitShapes {
  DitConfig config;
  int64_t out_channels = 0, pose_channels = 0;  // latent channels of the head and of cond_encoder
  int64_t audio_attentions = 0;                 // audio cross-attentions
  bool adain = false;
};
Expected<DitShapes> read_dit_shapes(const TensorSource& source);
// Reads json_path if it exists. Otherwise from the shapes, with heads of width 128 and audio after the layers of the
// released 14B model. Error if the shapes do not match that model: it needs its config.json.
Expected<DitConfig> find_dit_config(const TensorSource& source, const std::string& json_path);
std::string dit_config_json(const DitConfig& config);  // what parse_dit_config reads

// What the released model was trained with. Source: Wan2.2-S2V, motion_frames 73 and zip_frame_buckets [1, 2, 16].
constexpr int64_t kMotionFrames = 73;                // video frames before the first block
constexpr std::array<int64_t, 3> kPatch{1, 2, 2};    // frames, rows, columns of a token
constexpr std::array<int64_t, 3> kPatch2x{2, 4, 4};  // frame packer, second bucket
constexpr std::array<int64_t, 3> kPatch4x{4, 8, 8};  // third bucket
// The motion latents (one for the first frame, then one for every four frames) by the bucket that packs them: the
// newest, the two before it, and the oldest sixteen.
constexpr int64_t kModulationRows = 6;  // of a layer: shift, scale and gate of the self-attention and of the FFN
constexpr int64_t kMotion1x = 1, kMotion2x = 2, kMotion4x = 16;
constexpr int64_t kPackedLatents = kMotion4x + kMotion2x + kMotion1x;
static_assert(kPackedLatents == 1 + (kMotionFrames - 1) / 4);

constexpr int64_t patch_volume(const std::array<int64_t, 3>& patch) { return patch[0] * patch[1] * patch[2]; }

// The input of the audio encoder: the feature columns of the motion frames, then those of the block, one for each video
// frame. Two of its three convolutions halve the count, down to one for each latent. Each convolution is causal with a
// reach of two rows: kAudioPad rows of padding in front.
constexpr int64_t kBlockColumns = 12;
constexpr int64_t kAudioColumns = kMotionFrames + kBlockColumns;   // 85
constexpr int64_t kAudioHalfColumns = ceil_div(kAudioColumns, 2);  // 43
constexpr int64_t kAudioLatents = ceil_div(kAudioHalfColumns, 2);  // 22
constexpr int64_t kAudioPad = 2;

// Sizes that follow from the latent's height and width (pixels / 8). Larger patches drop the remainder.
struct DitGeometry {
  int64_t latent_height = 0, latent_width = 0;
  int64_t clip_latents = 12;  // capacity of a KV cache; default: the original's clip of 48 frames
  int64_t block_latents = 3;
  RankShare share;  // of the rank that computes

  int64_t rows() const { return latent_height / kPatch[1]; }
  int64_t columns() const { return latent_width / kPatch[2]; }
  int64_t rows_2x() const { return latent_height / kPatch2x[1]; }
  int64_t columns_2x() const { return latent_width / kPatch2x[2]; }
  int64_t rows_4x() const { return latent_height / kPatch4x[1]; }
  int64_t columns_4x() const { return latent_width / kPatch4x[2]; }
  int64_t latent_tokens() const { return rows() * columns(); }
  int64_t block_tokens() const { return block_latents * latent_tokens(); }
  int64_t kv_cache_tokens() const { return clip_latents * latent_tokens(); }
  int64_t tokens_2x() const { return kMotion2x / kPatch2x[0] * rows_2x() * columns_2x(); }
  int64_t tokens_4x() const { return kMotion4x / kPatch4x[0] * rows_4x() * columns_4x(); }
  int64_t sink_tokens() const { return 2 * latent_tokens() + tokens_2x() + tokens_4x(); }

  TokenLayout block_layout() const { return {block_latents, latent_tokens()}; }
  TokenLayout sink_layout() const { return {1, sink_tokens()}; }
  // Of this rank.
  int64_t own_latent_tokens() const { return share.of(latent_tokens()).count; }
  int64_t own_block_tokens() const { return block_layout().own_rows(share); }
  int64_t own_sink_tokens() const { return sink_layout().own_rows(share); }
};

}  // namespace liveavatar
