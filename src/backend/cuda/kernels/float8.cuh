// 8-bit elements.
#pragma once

#include "backend/cuda/kernels/device.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

// 4 bits of exponent, 3 of mantissa, no infinity.
struct e4m3 {
  uint8_t bits;
};

// Exact. The bits moved to their places in an f32 are the value but for the bias of the exponent, 7 instead of 127; so
// it is also for subnormal values.
LA_DEVICE float decode_e4m3(uint8_t bits) {
  const uint32_t sign = uint32_t(bits & 0x80) << 24, magnitude = bits & 0x7f;
  return magnitude == 0x7f ? as_float(0x7fc00000u | sign) : as_float(sign | magnitude << 20) * 0x1p120f;
}

LA_DEVICE float to_float(e4m3 x) { return decode_e4m3(x.bits); }
LA_DEVICE float to_float(int8_t x) { return static_cast<float>(x); }

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
