// Tiles of f32 in shared memory for product_f32, and how the weights come into them.
#pragma once

#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/float8.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

// A block of kProductThreads computes kProductTile x kProductTile of out; a step multiplies kProductDepth columns of x
// and w: a block of kQ4 is one step.
constexpr int kProductTile = 64, kProductDepth = 32, kProductThreads = 128;
constexpr int kProductTileFloats = kProductTile * kProductDepth;

// Where the value in `row` of x or w and column k of the step lies: k by k, as threads read 4 rows at once. These 4 are
// together; which bank they are in also depends on k, so that a warp that writes values of one row finds 8 places.
LA_DEVICE int product_tile_at(int k, int row) { return k * kProductTile + (row ^ (k / 4 % 8 * 4)); }

// ---- Weights ----

// Two values of kQ4, the first in the low half.
struct Nibbles {
  uint8_t bits;
};

template <typename W>
inline constexpr int kValuesOf = 16 / int(sizeof(W));  // in 16 bytes
template <>
inline constexpr int kValuesOf<Nibbles> = 32;

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

// Row n from column k on: kValuesOf<W> values with their scale. k is a multiple of as many.
template <typename W>
LA_DEVICE void read_weights(const PackedMatrix& w, int64_t n, int k, float (&values)[kValuesOf<W>]) {
  const int64_t group = n / kGroupRows, row = n % kGroupRows, rows_left = w.n - group * kGroupRows;
  const uint8_t* first_row = static_cast<const uint8_t*>(w.data) + group * w.group_bytes;
  const uint8_t* scales = first_row + (rows_left < kGroupRows ? rows_left : kGroupRows) * w.row_bytes;
  widen<W>(reinterpret_cast<const Vec<W, 16 / sizeof(W)>*>(first_row + row * w.row_bytes)[k / kValuesOf<W>], values);
  if constexpr (sizeof(W) == 1) {
    float scale;
    if constexpr (kValuesOf<W> == 32) {
      scale = to_float(reinterpret_cast<const bf16*>(scales)[row * ((w.k + 31) / 32) + k / 32]);
    } else {
      scale = reinterpret_cast<const float*>(scales)[row];
    }
#pragma unroll
    for (int i = 0; i < kValuesOf<W>; ++i) values[i] *= scale;
  }
}

// Fills a tile with rows [first_row, first_row + rows) of w from column k on; what lies outside becomes zeros.
template <typename W>
LA_DEVICE void fill_weights_of(float* tile, const PackedMatrix& w, int64_t first_row, int rows, int k) {
  constexpr int kChunks = kProductDepth / kValuesOf<W>;  // of a row
  for (int at = int(threadIdx.x); at < kProductTile * kChunks; at += kProductThreads) {
    const int row = at / kChunks, column = at % kChunks * kValuesOf<W>;
    float values[kValuesOf<W>] = {};
    if (row < rows && k + column < w.k) read_weights<W>(w, first_row + row, k + column, values);
#pragma unroll
    for (int i = 0; i < kValuesOf<W>; ++i) tile[product_tile_at(column + i, row)] = values[i];
  }
}
LA_DEVICE void fill_weights(float* tile, const PackedMatrix& w, int64_t first_row, int rows, int k) {
  switch (w.type) {
    case ElementType::kF32:
      return fill_weights_of<float>(tile, w, first_row, rows, k);
    case ElementType::kBF16:
      return fill_weights_of<bf16>(tile, w, first_row, rows, k);
    case ElementType::kI8:
      return fill_weights_of<int8_t>(tile, w, first_row, rows, k);
    case ElementType::kE4M3:
      return fill_weights_of<e4m3>(tile, w, first_row, rows, k);
    case ElementType::kQ4:
      return fill_weights_of<Nibbles>(tile, w, first_row, rows, k);
  }
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
