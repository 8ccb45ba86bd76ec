// Finds the files of a checkpoint's parts: in the original's folder, in a ComfyUI tree, or any files in one folder.
#pragma once

#include <string>
#include <vector>

#include "weights/part_files.h"

namespace liveavatar {

// Prefix of the video model's files in the original's folder.
constexpr const char* kDitStem = "diffusion_pytorch_model";

// Paths from the user: files, or folders to search for a part. Empty: the part comes from `folder`.
struct PartRequest {
  std::string folder;  // --ckpt_dir; empty: every part has its own path
  std::string dit, text_encoder, vae, audio_encoder, tokenizer;
  bool with_dit = true;  // false: the video model comes from elsewhere, a packed file
};

struct PartPaths {
  std::string dit;         // a path for open_part; so are the others
  std::string dit_config;  // its config.json; empty: use the shapes
  std::string text_encoder;
  std::string tokenizer;  // a path for Tokenizer::load; may be the text encoder's file
  std::string vae;
  std::string audio_encoder;
  std::string audio_config_dir;  // folder of its config.json; empty: none
};

// The original's file names have priority. Other files are identified by their tensors. Errors list every missing part
// with its flag, or all candidates of a part that has several.
Expected<PartPaths> find_parts(const PartRequest& request);
// Only dit and dit_config.
Expected<PartPaths> find_video_model(const PartRequest& request);

// For `liveavatar info`: the part that each file has, and whether it is readable.
struct PartReport {
  std::string part, path;
  int64_t tensors = 0, parameters = 0, bytes = 0;
  std::string dtypes;   // "BF16, F32"
  std::string problem;  // empty: readable
};
std::vector<PartReport> inspect_parts(const PartRequest& request);
// One file.
PartReport inspect_file(const std::string& path);

}  // namespace liveavatar
