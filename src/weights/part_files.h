// Files of weights in a folder, and which part of a checkpoint each holds.
#pragma once

#include <string>
#include <vector>

#include "weights/part.h"

namespace liveavatar {

// A file, or the .index.json of a model in shards.
struct WeightsFile {
  std::string path;
  TensorSourcePtr source;  // null where it cannot be read
  std::string problem;     // why
};

// Those of the folder and of the folders inside it, in the order of their paths. Shards, further parts of a split GGUF,
// and folders of adapters are left out.
std::vector<WeightsFile> list_weights_files(const std::string& folder);

// Whether these tensors are a whole part of this kind of checkpoint, and not of a related model.
bool is_whole_part(const TensorSource& file, Part part);

// The files behind `path`: those of its shards too.
std::vector<std::string> files_behind(const std::string& path);

}  // namespace liveavatar
