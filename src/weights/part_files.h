// Weight files in a folder, and the part of a checkpoint that each has.
#pragma once

#include <string>
#include <vector>

#include "weights/part.h"

namespace liveavatar {

// A file, or the .index.json of a model in shards.
struct WeightsFile {
  std::string path;
  TensorSourcePtr source;  // null if it cannot be read
  std::string problem;     // why
};

// Files of the folder and its subfolders, sorted by path. Without shards, further parts of a split GGUF, and folders of
// adapters.
std::vector<WeightsFile> list_weights_files(const std::string& folder);

// Whether these tensors are a complete part of this kind of checkpoint, and not of a related model.
bool is_whole_part(const TensorSource& file, Part part);

// All files of `path`, including its shards.
std::vector<std::string> files_behind(const std::string& path);

}  // namespace liveavatar
