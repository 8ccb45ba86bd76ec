#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

const Kernels& kernels() {
  static const Kernels table{
      .layer_norm = launch_layer_norm,
      .rms_norm = launch_rms_norm,
      .rope = launch_rope,
      .quantise = launch_quantise,
      .dequantise = launch_dequantise,
      .binary = launch_binary,
      .activate = launch_activate,
      .fill = launch_fill,
      .clamp = launch_clamp,
      .rgb8 = launch_rgb8,
      .copy_rows = launch_copy_rows,
      .repeat_columns = launch_repeat_columns,
      .relative_bias = launch_relative_bias,
      .patch = launch_patch,
      .transpose = launch_transpose,
      .linear_f32 = launch_linear_f32,
      .conv_f32 = launch_conv_f32,
      .attention_f32 = launch_attention_f32,
      .linear_bf16 = launch_linear_bf16,
      .linear_8bit = launch_linear_8bit,
      .finish_product = launch_finish_product,
      .conv_bf16 = launch_conv_bf16,
      .attention_bf16 = launch_attention_bf16,
  };
  return table;
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
