// Values as 8-bit codes with a scale a row, or 4-bit codes with a scale a block: value = scale * code. Every code is
// exact in bf16, and so is scale * code of the 4-bit blocks, so that matrix kernels unpack without rounding.
#pragma once

#include "core/dtype.h"

namespace liveavatar {

// A byte a value: kI8 (-127..127, so that the largest value is 127 scales) or kF8E4M3 (the largest is 448).
constexpr bool is_8bit(DType t) { return t == DType::kI8 || t == DType::kF8E4M3; }
// What a matrix may be packed in beside f32 and bf16.
constexpr bool is_quantised(DType t) { return is_8bit(t) || t == DType::kQ4; }

inline float decode_8bit(DType type, uint8_t code) {
  return type == DType::kI8 ? static_cast<float>(static_cast<int8_t>(code)) : to_f32(f8e4m3{code});
}
// n finite values in kI8 or kF8E4M3; returns their scale.
float quantise_8bit(const float* values, int64_t n, DType type, uint8_t* codes);

// 4-bit blocks: codes 0..15 stand for -8..7. The scale has four significant bits, so that scale * (code - 8) has eight.
constexpr int64_t kQ4Block = 32;
constexpr uint8_t kQ4Zero = 8;
// n <= kQ4Block finite values; of the scales that could serve the one with the least square error.
bf16 quantise_q4(const float* values, int64_t n, uint8_t* codes);

}  // namespace liveavatar
