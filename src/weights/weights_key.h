// A short text that tells the weights of one model from those of another of the same shapes, without reading them all.
#pragma once

#include <string>
#include <vector>

#include "weights/lora.h"
#include "weights/packed_file.h"

namespace liveavatar {

// Changes with names, shapes, types and some values of the tensors, and with all that merging the adapters depends on.
// Does not change with paths, names and times of files, which differ between machines. Reads a row of 64 tensors of
// each file.
Expected<std::string> weights_key(const TensorSource& base, const std::vector<LoraAdapter>& adapters);
// Of a packed file: all of its values, as its header has their checksums.
std::string weights_key(const PackedHeader& header);
// False if they are known to differ. The key of a packed file tells nothing about other files, nor about those in
// another packing.
bool may_be_same_weights(const std::string& a, const std::string& b);

}  // namespace liveavatar
