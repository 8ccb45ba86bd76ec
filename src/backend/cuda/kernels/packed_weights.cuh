// Packed weights: where their rows lie, and what their bytes mean. kernels.h says how they are packed.
#pragma once

#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/pairs.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

// Two values of kQ4, the first in the low half.
struct Nibbles {
  uint8_t bits;
};

template <typename W>
inline constexpr int kValuesOf = 16 / int(sizeof(W));  // in 16 bytes
template <>
inline constexpr int kValuesOf<Nibbles> = 32;

template <typename W>
inline constexpr bool kHasScales = sizeof(W) == 1 || kIsPair<W>;

// 16 bytes as they lie in memory to f32, exactly and without their scale.
template <typename W>
LA_DEVICE void widen(const Vec<W, 16 / sizeof(W)>& packed, float (&values)[kValuesOf<W>]) {
#pragma unroll
  for (int i = 0; i < kValuesOf<W>; ++i) values[i] = to_float(packed.at[i]);
}
template <>
LA_DEVICE void widen<Nibbles>(const Vec<Nibbles, 16>& packed, float (&values)[32]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    values[2 * i] = static_cast<float>(int(packed.at[i].bits & 15) - 8);
    values[2 * i + 1] = static_cast<float>(int(packed.at[i].bits >> 4) - 8);
  }
}

// The values of row n.
LA_DEVICE const uint8_t* weight_row(const PackedMatrix& w, int64_t n) {
  return static_cast<const uint8_t*>(w.data) + n / kGroupRows * w.group_bytes + n % kGroupRows * w.row_bytes;
}

// What the values of row n from column k on are multiplied by, up to the next block of kQ4; 1 without scales.
template <typename W>
LA_DEVICE float weight_scale(const PackedMatrix& w, int64_t n, int k) {
  if constexpr (!kHasScales<W>) {
    return 1.0f;
  } else {
    const int64_t first = n / kGroupRows * kGroupRows, rows_left = w.n - first;
    const uint8_t* scales = weight_row(w, first) + (rows_left < kGroupRows ? rows_left : kGroupRows) * w.row_bytes;
    if constexpr (kValuesOf<W> == 32) {
      return to_float(reinterpret_cast<const bf16*>(scales)[(n - first) * ((w.k + 31) / 32) + k / 32]);
    } else {
      return reinterpret_cast<const float*>(scales)[n - first];
    }
  }
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
