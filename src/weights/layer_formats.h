// Which layer of a file is stored in which format, and which tensors beside its weight say so.
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

// How the weight <layer>.weight of a file becomes values. Names are the file's; empty: not there.
struct LayerFormat {
  WeightFormat format = WeightFormat::kPlain;
  std::string scale, scale_2, pre_quant_scale;
  int64_t rotation_group = 0;  // columns that were rotated together; 0: none
};

// Of every weight that has companions, by the weight's name. Errors name the tensor that is not understood.
Expected<std::map<std::string, LayerFormat>> read_layer_formats(const TensorSource& file);
// Whether a tensor of the file is a companion or a marker, not a tensor of the model.
bool is_companion(const TensorSource& file, const std::string& name);

}  // namespace liveavatar
