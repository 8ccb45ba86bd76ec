// The launches behind the table of kernels.h, of this compilation: on_card or emulated. What each computes stands
// there.
#pragma once

#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/device.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

int launch_layer_norm(const LayerNormCall& c, void* stream);
int launch_rms_norm(const RmsNormCall& c, void* stream);
int launch_rope(const RopeCall& c, void* stream);
int launch_quantise(const QuantiseCall& c, void* stream);
int launch_dequantise(const DequantiseCall& c, void* stream);
int launch_binary(const BinaryCall& c, void* stream);
int launch_activate(const ActivateCall& c, void* stream);
int launch_fill(const FillCall& c, void* stream);
int launch_clamp(const ClampCall& c, void* stream);
int launch_rgb8(const Rgb8Call& c, void* stream);
int launch_copy_rows(const CopyRowsCall& c, void* stream);
int launch_repeat_columns(const RepeatColumnsCall& c, void* stream);
int launch_relative_bias(const RelativeBiasCall& c, void* stream);
int launch_patch(const PatchCall& c, void* stream);
int launch_transpose(const TransposeCall& c, void* stream);
int launch_linear_f32(const LinearCall& c, void* stream);
int launch_conv_f32(const ConvCall& c, void* stream);
int launch_attention_f32(const AttentionCall& c, void* stream);
int launch_linear_bf16(const LinearCall& c, void* stream);
int launch_linear_8bit(const Linear8bitCall& c, void* stream);
int launch_finish_product(const FinishProductCall& c, void* stream);
int launch_conv_bf16(const ConvCall& c, void* stream);
int launch_attention_bf16(const AttentionCall& c, void* stream);
// For tests alone.
int launch_product_8bit(const Product8bitCall& c, void* stream);

// Calls f(Types<In, Out>()) with the kernels' types for an input and an output in f32 or bf16.
template <typename In, typename Out>
struct Types {};
template <typename F>
int for_types(ElementType in, ElementType out, F&& f) {
  if (in == ElementType::kF32) {
    if (out == ElementType::kF32) return f(Types<float, float>());
    return f(Types<float, bf16>());
  }
  if (out == ElementType::kF32) return f(Types<bf16, float>());
  return f(Types<bf16, bf16>());
}
// Calls f(Type<T>()) for a type that is f32 or bf16.
template <typename T>
struct Type {};
template <typename F>
int for_type(ElementType type, F&& f) {
  if (type == ElementType::kF32) return f(Type<float>());
  return f(Type<bf16>());
}

// Whether vectors of four elements may lie at all of these addresses.
template <typename... T>
bool hold_vectors(const T*... data) {
  return (is_aligned(data, 4) && ...);
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
