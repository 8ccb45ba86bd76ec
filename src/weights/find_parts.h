// Which file is which part of a checkpoint: of the original's folder, of a ComfyUI tree, or any files in one folder.
#pragma once

#include <string>
#include <vector>

#include "weights/part_files.h"

namespace liveavatar {

// What the names of the video model's files in the original's folder begin with.
constexpr const char* kDitStem = "diffusion_pytorch_model";

// Paths as they were given: files, or folders in which a part is looked for. Empty: the part comes from `folder`.
struct PartRequest {
  std::string folder;  // --ckpt_dir; empty: every part has a path of its own
  std::string dit, text_encoder, vae, audio_encoder, tokenizer;
  bool with_dit = true;  // false: the video model comes from elsewhere, a packed file
};

struct PartPaths {
  std::string dit;         // what open_part takes; likewise the others
  std::string dit_config;  // its config.json; empty: none, the shapes tell
  std::string text_encoder;
  std::string tokenizer;  // what Tokenizer::load takes; may be the text encoder's file
  std::string vae;
  std::string audio_encoder;
  std::string audio_config_dir;  // where its config.json lies; empty: none
};

// The original's file names go first; other files are told apart by their tensors. Errors name every part that is
// missing with the flag that gives it, or all candidates of a part that has several.
Expected<PartPaths> find_parts(const PartRequest& request);
// dit and dit_config alone.
Expected<PartPaths> find_video_model(const PartRequest& request);

// For `liveavatar info`: which file serves as what, readable or not.
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
