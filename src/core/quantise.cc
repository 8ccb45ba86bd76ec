#include "core/quantise.h"

#include <algorithm>
#include <cmath>

namespace liveavatar {
namespace {

float largest_of(const float* values, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(values[i]));
  return largest;
}

// Rounds |x| < 2^22 to the nearest integer, ties to even: adding 1.5 * 2^23 drops the fraction bits. A library call
// would take most of the packing time.
float nearest(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

// The quantised value, -8..7, of steps * scale.
float nearest_step(float steps) { return nearest(std::min(std::max(steps, -8.0f), 7.0f)); }

// Of a whole block. Eight accumulators, so that the compiler can use vectors.
float square_error(const float* values, float scale) {
  constexpr int64_t kLanes = 8;
  float inverse = 1 / scale, acc[kLanes] = {}, sum = 0;
  for (int64_t i = 0; i < kQ4Block; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      float error = values[i + j] - scale * nearest_step(values[i + j] * inverse);
      acc[j] += error * error;
    }
  }
  for (float a : acc) sum += a;
  return sum;
}

}  // namespace

float quantise_8bit(const float* values, int64_t n, DType type, uint8_t* quantised) {
  float top = type == DType::kI8 ? 127.0f : 448.0f, largest = largest_of(values, n);
  // Values whose scale is too small to invert become zeros.
  float scale = largest < 1e-30f ? 0.0f : largest / top, inverse = scale == 0 ? 0.0f : 1 / scale;
  for (int64_t i = 0; i < n; ++i) {
    float v = values[i] * inverse;
    quantised[i] = type == DType::kI8 ? static_cast<uint8_t>(static_cast<int8_t>(nearest(v))) : to_f8e4m3(v).bits;
  }
  return scale;
}

// The value of the largest magnitude is stored as 0 or near it, since -8..7 has one more step there: the scale has the
// opposite sign of that value.
bf16 quantise_q4(const float* values, int64_t n, uint8_t* quantised) {
  float top = 0, block[kQ4Block] = {};
  std::copy_n(values, n, block);
  for (int64_t i = 0; i < n; ++i) top = std::fabs(values[i]) > std::fabs(top) ? values[i] : top;
  if (std::fabs(top) < 1e-30f) {
    std::fill_n(quantised, n, kQ4Zero);
    return {0};
  }
  int exponent = 0;
  float fraction = std::frexp(std::fabs(top) / 9, &exponent);  // 0.5..1; with smaller scales too many values clip
  int significand = static_cast<int>(std::ceil(fraction * 16));
  float best = 0, best_error = INFINITY;
  for (;; ++significand) {
    if (significand == 16) significand = 8, ++exponent;
    float size = std::ldexp(static_cast<float>(significand), exponent - 4);
    if (best != 0 && size > std::fabs(top) / 6) break;  // larger scales are too coarse
    float scale = std::copysign(size, -top), error = square_error(block, scale);
    if (error < best_error) best = scale, best_error = error;
  }
  float inverse = 1 / best;
  for (int64_t i = 0; i < n; ++i) quantised[i] = static_cast<uint8_t>(nearest_step(values[i] * inverse) + kQ4Zero);
  return to_bf16(best);
}

}  // namespace liveavatar
