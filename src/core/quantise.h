// Quantisation: 8-bit values with one scale for each row, or 4-bit values with one scale for each block. The real value
// is scale * quantised value. bf16 holds each quantised value exactly, and each scale * value of the 4-bit blocks, so
// matrix kernels unpack without rounding.
#pragma once

#include "core/dtype.h"

namespace liveavatar {

// One byte for each value: kI8 (-127..127: the largest magnitude is 127 * scale) or kF8E4M3 (448 * scale).
constexpr bool is_8bit(DType t) { return t == DType::kI8 || t == DType::kF8E4M3; }
// Types that a matrix may be packed in, other than f32 and bf16.
constexpr bool is_quantised(DType t) { return is_8bit(t) || t == DType::kQ4; }

inline float decode_8bit(DType type, uint8_t bits) {
  return type == DType::kI8 ? static_cast<float>(static_cast<int8_t>(bits)) : to_f32(f8e4m3{bits});
}
// n finite values to kI8 or kF8E4M3. Returns the scale.
float quantise_8bit(const float* values, int64_t n, DType type, uint8_t* quantised);

// 4-bit blocks: stored 0..15 means -8..7. The scale has four significant bits, so scale * (stored - 8) has eight.
constexpr int64_t kQ4Block = 32;
constexpr uint8_t kQ4Zero = 8;
// n <= kQ4Block finite values. Chooses and returns the scale with the least square error.
bf16 quantise_q4(const float* values, int64_t n, uint8_t* quantised);

}  // namespace liveavatar
