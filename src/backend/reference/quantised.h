// Quantised matrices of the reference backend, row by row, each with its scales and values in order.
//   kI8, kF8E4M3: scale f32, then k values, rounded up to 4 bytes
//   kQ4:          for 32 values: scale bf16, then 16 bytes, the even value in the low nibble
#pragma once

#include <span>

#include "core/tensor.h"

namespace liveavatar::reference {

size_t quantised_row_bytes(int64_t k, DType dtype);
// weight [n, k] f32 or bf16
void pack_quantised(const Tensor& weight, DType dtype, void* target);
// Quantised values [n, k] kI8 or kF8E4M3, with a scale for each row.
void pack_prequantised(const Tensor& quantised, std::span<const float> scales, void* target);
float quantised_value(const void* packed, DType dtype, int64_t row, int64_t k, int64_t columns);

}  // namespace liveavatar::reference
