// Decodes weights that a file stores as 8- or 4-bit values with scale tensors ("companions").
#pragma once

#include "weights/tensor_source.h"

namespace liveavatar {

// file with the companions of its weights applied and hidden. What it knows (docs/checkpoint.md has the table):
//   <layer>.scale_weight, .weight_scale        one scale, or one for each output: fp8, int8, or any float type
//   <layer>.comfy_quant, _quantization_metadata  the format: float8_e4m3fn, float8_e5m2, mxfp8, nvfp4, int8_tensorwise
//   <layer>.weight_scale_2, .pre_quant_scale   nvfp4's second scale; a factor for each input
// Hints for activations (.scale_input, .input_scale) and the marker scaled_fp8 are ignored. An unknown tensor
// beside a weight, a scale without a weight, and integers without a scale are errors that name them.
Expected<TensorSourcePtr> apply_scales(TensorSourcePtr file);

}  // namespace liveavatar
