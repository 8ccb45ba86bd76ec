// The 8-bit formats: a byte to f32 exactly, and f32 to a byte, to nearest even, as core/quantise.h does on the host.
#pragma once

#include "backend/cuda/kernels/device.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

// A sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinity.
struct e4m3 {
  uint8_t bits;
};

LA_DEVICE float to_float(int8_t x) { return static_cast<float>(x); }
LA_DEVICE float to_float(e4m3 x) {
  const uint32_t sign = uint32_t(x.bits & 0x80u) << 24, magnitude = x.bits & 0x7fu;
  if (magnitude == 0x7f) return as_float(sign | 0x7fc00000u);
  // The bits where f32 has them, then the other bias: subnormals are subnormal f32 first, which are not flushed.
  return as_float(sign | magnitude << 20) * 0x1p120f;
}

// As formats to quantise to.
struct Int8 {
  static constexpr float kTop = 127.0f;  // the largest magnitude that quantised values use

  static LA_DEVICE float decode(uint8_t byte) { return to_float(int8_t(byte)); }
  // |x| < 127.5
  static LA_DEVICE uint8_t encode(float x) { return uint8_t(int8_t(rintf(x))); }
};

struct E4m3 {
  static constexpr float kTop = 448.0f;

  static LA_DEVICE float decode(uint8_t byte) { return to_float(e4m3{byte}); }
  // Saturates at 448. NaN stays NaN.
  static LA_DEVICE uint8_t encode(float x) {
    const uint32_t bits = as_bits(x), sign = (bits >> 24) & 0x80u, magnitude = bits & 0x7fffffffu;
    const float size = as_float(magnitude);
    if (magnitude > 0x7f800000u) return uint8_t(sign | 0x7f);
    if (size >= kTop) return uint8_t(sign | 0x7e);
    if (size < 0x1p-6f) return uint8_t(sign | uint32_t(rintf(size * 0x1p9f)));  // subnormal: steps of 2^-9
    const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1);
    return uint8_t(sign | (rounded - (120u << 23)) >> 20);
  }
};

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
