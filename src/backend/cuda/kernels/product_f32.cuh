// out = residual + gate * activation(x w^T + bias) in f32 arithmetic: the truth of all products on the device, for
// every type and shape. Values are widened when they come into shared memory. A value of out is summed in the order of
// k, so that a row's bits do not depend on the rows beside it.
#pragma once

#include "backend/cuda/kernels/product_args.cuh"
#include "backend/cuda/kernels/product_tile.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

// A thread's part of out. Threads go through the 16 parts of a line of the tile first.
constexpr int kThreadRows = 8, kThreadColumns = 4, kThreadsAcross = kProductTile / kThreadColumns;
static_assert(kProductTile / kThreadRows * kThreadsAcross == kProductThreads);
using ProductAcc = float[kThreadRows][kThreadColumns];
using Four = Vec<float, 4>;

// Two pairs of tiles: one is filled while slower warps still multiply the other.
constexpr size_t kProductSharedBytes = size_t(2) * 2 * kProductTileFloats * sizeof(float);

LA_DEVICE int thread_row() { return int(threadIdx.x) / kThreadsAcross * kThreadRows; }
LA_DEVICE int thread_column() { return int(threadIdx.x) % kThreadsAcross * kThreadColumns; }

// A thread fills 4 columns of the tile of x in every kFillRows-th row.
constexpr int kFillThreads = kProductDepth / 4, kFillRows = kProductThreads / kFillThreads;
template <typename In>
using FilledRows = typename In::Row[kProductTile / kFillRows];

// The tile's columns from k on. kWide: 4 columns lie side by side in memory, and aligned; else 1.
template <int kWide, typename In>
LA_DEVICE void fill_x(float* tile, const In& x, const FilledRows<In>& rows, int k) {
  const int first_row = int(threadIdx.x) / kFillThreads, first_column = int(threadIdx.x) % kFillThreads * 4;
  typename In::Element values[kProductTile / kFillRows][4];
  read_rows<kWide>(values, x, rows, k + first_column);
#pragma unroll
  for (int i = 0; i < kProductTile / kFillRows; ++i) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      tile[product_tile_at(first_column + c, first_row + i * kFillRows)] = to_float(values[i][c]);
    }
  }
}

LA_DEVICE Four four_rows(const float* tile, int k, int row) {
  return *reinterpret_cast<const Four*>(tile + product_tile_at(k, row));
}

LA_DEVICE void multiply_tiles(ProductAcc& acc, const float* x_tile, const float* w_tile) {
  const int row = thread_row(), column = thread_column();
#pragma unroll 8
  for (int k = 0; k < kProductDepth; ++k) {
    const Four x[2] = {four_rows(x_tile, k, row), four_rows(x_tile, k, row + 4)}, w = four_rows(w_tile, k, column);
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
#pragma unroll
      for (int c = 0; c < kThreadColumns; ++c) acc[r][c] = multiply_add(x[r / 4].at[r % 4], w.at[c], acc[r][c]);
    }
  }
}

template <typename In>
LA_DEVICE void store_acc(const ProductArgs<In>& p, const ProductAcc& acc) {
  const int first_row = int(blockIdx.x) * kProductTile + thread_row();
  const int first_column = int(blockIdx.y) * kProductTile + thread_column();  // of the group
#pragma unroll
  for (int r = 0; r < kThreadRows; ++r) {
#pragma unroll
    for (int c = 0; c < kThreadColumns; ++c) {
      const int row = first_row + r;
      if (row >= p.x.rows || first_column + c >= p.group_columns) continue;
      store_product(p, row, int(blockIdx.z) * p.group_columns + first_column + c, acc[r][c]);
    }
  }
}

// Block x, y, z: rows of out, columns of a group, the group.
template <int kWide, typename In>
__global__ void __launch_bounds__(kProductThreads) product_f32(LA_PARAMETER ProductArgs<In> p) {
  const int first_row = int(blockIdx.x) * kProductTile, first_column = int(blockIdx.y) * kProductTile;
  const int64_t first_weight = int64_t(blockIdx.z) * p.group_columns + first_column;
  FilledRows<In> rows;
#pragma unroll
  for (int i = 0; i < kProductTile / kFillRows; ++i) {
    rows[i] = p.x.row(first_row + i * kFillRows + int(threadIdx.x) / kFillThreads);
  }
  ProductAcc acc = {};
  float* tiles = dynamic_shared<float>();
  for (int k = 0; k < p.x.k_end; k += kProductDepth) {
    float* x_tile = tiles + k / kProductDepth % 2 * 2 * kProductTileFloats;
    float* w_tile = x_tile + kProductTileFloats;
    fill_x<kWide>(x_tile, p.x, rows, k);
    fill_weights(w_tile, p.w, first_weight, p.group_columns - first_column, k);
    sync_threads();  // the tiles are filled, and nobody multiplies the other pair any more
    multiply_tiles(acc, x_tile, w_tile);
  }
  store_acc(p, acc);
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
