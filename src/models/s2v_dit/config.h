// Hyper-parameters of the causal S2V DiT and the token counts that follow from a picture's size.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/status.h"
#include "weights/tensor_source.h"

namespace liveavatar {

// What values are held in: one type for all, or a narrower one for what is large.
struct DitTypes {
  DType values = DType::kBF16;   // activations and small weights: kF32 or kBF16
  DType weights = DType::kBF16;  // matrices of layers and injectors: also kI8, kF8E4M3, kQ4
  DType kv = DType::kBF16;       // keys and values of rings and sink: as values, kI8 or kF8E4M3
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
  int64_t audio_tokens = 4;   // local tokens a latent frame, one padding token comes on top
  int64_t channels = 16;      // of a latent
  float eps = 1e-6f;
  std::vector<int64_t> audio_inject_layers;
  std::string video_size;  // "liveavatar_size": of the videos it was trained at, as "704*384"; empty: not said

  int64_t head_dim() const { return dim / heads; }
  // Which injector serves this layer; -1: none.
  int64_t injector_of(int64_t layer) const;
};

// Errors name the file, the key and what it should be.
Expected<DitConfig> read_dit_config(const std::string& json_path);
Expected<DitConfig> parse_dit_config(const std::string& json_text, const std::string& where);
// What the shapes of a model's tensors tell when there is no config.json. Of config: all but heads,
// audio_inject_layers, text_len and eps.
struct DitShapes {
  DitConfig config;
  int64_t out_channels = 0, pose_channels = 0;  // latent channels of the head and of cond_encoder
  int64_t injectors = 0;                        // audio cross-attentions
  bool adain = false;
};
Expected<DitShapes> read_dit_shapes(const TensorSource& source);
// json_path if that file is there, else from the shapes: heads 128 wide and audio after the layers of the released 14B
// model. Error where shapes do not tell and the model is not the released one: put its config.json beside it.
Expected<DitConfig> find_dit_config(const TensorSource& source, const std::string& json_path);
std::string dit_config_json(const DitConfig& config);  // what parse_dit_config reads

constexpr int64_t kMotionFrames = 73;
constexpr std::array<int64_t, 3> kPatch{1, 2, 2};    // frames, rows, columns of a token
constexpr std::array<int64_t, 3> kPatch2x{2, 4, 4};  // frame packer, second bucket (2 latents)
constexpr std::array<int64_t, 3> kPatch4x{4, 8, 8};  // third bucket (16 latents)

// Sizes that follow from the latent's height and width (pixels / 8). Remainders of the coarser patches are dropped.
struct DitGeometry {
  int64_t latent_height = 0, latent_width = 0;
  int64_t clip_latents = 12;  // room of a ring
  int64_t block_latents = 3;

  int64_t rows() const { return latent_height / 2; }
  int64_t columns() const { return latent_width / 2; }
  int64_t latent_tokens() const { return rows() * columns(); }
  int64_t block_tokens() const { return block_latents * latent_tokens(); }
  int64_t ring_tokens() const { return clip_latents * latent_tokens(); }
  int64_t tokens_2x() const { return (latent_height / 4) * (latent_width / 4); }
  int64_t tokens_4x() const { return 4 * (latent_height / 8) * (latent_width / 8); }
  int64_t cond_tokens() const { return 2 * latent_tokens() + tokens_2x() + tokens_4x(); }
};

}  // namespace liveavatar
