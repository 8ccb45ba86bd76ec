// The original's checkpoint folder: which file is which part.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "weights/tensor_source.h"

namespace liveavatar {

// What the names of the video model's files in a folder begin with.
constexpr const char* kDitStem = "diffusion_pytorch_model";

struct CheckpointPaths {
  std::string dit_dir;        // config.json and diffusion_pytorch_model*.safetensors
  std::string dit_gguf;       // instead of the safetensors; empty: none
  std::string text_weights;   // models_t5_umt5-xxl-enc-bf16.pth or .safetensors
  std::string tokenizer_dir;  // google/umt5-xxl
  std::string vae_weights;    // Wan2.1_VAE.pth or .safetensors
  std::string audio_dir;      // wav2vec2-large-xlsr-53-english
};

// gguf: a file with the video model's weights; empty: those of the folder, where one .gguf may stand in for the
// safetensors. with_dit: whether the video model must be there too. The error names every missing part at once.
Expected<CheckpointPaths> find_checkpoint(const std::string& dir, const std::string& gguf = "", bool with_dit = true);
// The video model of a folder alone: dit_dir and dit_gguf.
Expected<CheckpointPaths> find_video_model(const std::string& dir, const std::string& gguf);
Expected<TensorSourcePtr> open_dit_weights(const CheckpointPaths& paths);

// For `liveavatar info`: a part's files as they are, readable or not.
struct PartReport {
  std::string part, path;
  int64_t tensors = 0, parameters = 0, bytes = 0;
  std::string dtypes;   // "BF16, F32"
  std::string problem;  // empty: readable
};
std::vector<PartReport> inspect_checkpoint(const std::string& dir, const std::string& gguf = "");

}  // namespace liveavatar
