// Converts tensor names to the original's.
#pragma once

#include <string>

#include "weights/part.h"

namespace liveavatar {

// The naming scheme of a part in a file.
struct Spelling {
  std::string prefix;                                          // removed first; names without it belong to other models
  std::string (*original)(const std::string& name) = nullptr;  // "" : not a tensor of this part
};

// Found by the names that a file has; original is null where the file is not this part.
Spelling find_spelling(const TensorSource& file, Part part);

}  // namespace liveavatar
