// Tiles of f32 in shared memory for product_f32, and how the weights come into them.
#pragma once

#include "backend/cuda/kernels/packed_weights.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

// A block of kProductThreads computes kProductTile x kProductTile of out; a step multiplies kProductDepth columns of x
// and w: a block of kQ4 is one step.
constexpr int kProductTile = 64, kProductDepth = 32, kProductThreads = 128;
constexpr int kProductTileFloats = kProductTile * kProductDepth;

// Where the value in `row` of x or w and column k of the step lies: k by k, as threads read 4 rows at once. These 4 are
// together; which bank they are in also depends on k, so that a warp that writes values of one row finds 8 places.
LA_DEVICE int product_tile_at(int k, int row) { return k * kProductTile + (row ^ (k / 4 % 8 * 4)); }

// Row n from column k on: kValuesOf<W> values with their scale. k is a multiple of as many.
template <typename W>
LA_DEVICE void read_weights(const PackedMatrix& w, int64_t n, int k, float (&values)[kValuesOf<W>]) {
  const auto* row = reinterpret_cast<const Vec<W, 16 / sizeof(W)>*>(weight_row(w, n));
  widen<W>(row[k / kValuesOf<W>], values);
  const float scale = weight_scale<W>(w, n, k);
#pragma unroll
  for (int i = 0; i < kValuesOf<W>; ++i) values[i] *= scale;
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
