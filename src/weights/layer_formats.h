// The storage format of each layer of a file, from the tensors beside its weight.
#pragma once

#include <map>
#include <string>

#include "weights/tensor_source.h"

namespace liveavatar {

enum class WeightFormat {
  kPlain,   // what the tensor's own type says
  kScaled,  // that, times a scale for the tensor or for each row
  kMxfp8,   // e4m3, and an exponent for 32 columns
  kNvfp4,   // e2m1, two a byte, an e4m3 scale for 16 columns and one for the tensor
};

// How to decode the weight <layer>.weight of a file. Tensor names are those of the file; empty: absent.
struct LayerFormat {
  WeightFormat format = WeightFormat::kPlain;
  std::string scale, scale_2, pre_quant_scale;
  int64_t rotation_group = 0;  // columns that were rotated together; 0: no rotation
};

// Formats of all weights with companion tensors, by weight name. Errors name unknown tensors.
Expected<std::map<std::string, LayerFormat>> read_layer_formats(const TensorSource& file);
// Whether a tensor of the file is a companion or a marker, not a tensor of the model.
bool is_companion(const TensorSource& file, const std::string& name);

}  // namespace liveavatar
