// Spellings of tensor names, turned into the original's.
#pragma once

#include <string>

#include "weights/part.h"

namespace liveavatar {

// How one file spells a part's names.
struct Spelling {
  std::string prefix;                                          // taken off first; names without it are other models'
  std::string (*original)(const std::string& name) = nullptr;  // "" : not a tensor of this part
};

// Found by the names that a file has; original is null where the file is not this part.
Spelling find_spelling(const TensorSource& file, Part part);

}  // namespace liveavatar
