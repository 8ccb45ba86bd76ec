// out = residual + gate * activation(x w^T + bias). Operands are bf16, and sums f32 in one order for every row, so that
// a row's bits do not depend on the rows beside it.
#pragma once

#include "backend/cuda/kernels/epilogue.cuh"
#include "backend/cuda/kernels/tile.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

struct GemmArgs {
  const bf16* x;         // [m, k]
  const bf16* w;         // [n, w_stride], of which k columns count; w_stride is a multiple of 8
  const float* bias;     // optional [n]
  const float* gate;     // optional [m / rows_per_gate, n]
  const void* residual;  // optional [m, n], of out's type; may be out
  void* out;             // [m, n], f32 or bf16
  int m, n, k, w_stride, rows_per_gate;
  Activation activation;
};

// A block computes kRows x kColumns of out, a warp of it kWarpRows x kWarpColumns. A step multiplies kDepth columns of
// x and w. kStages tiles of each operand are in shared memory: one is multiplied while the others are being copied.
template <int kRows_, int kColumns_, int kWarpRows_, int kWarpColumns_, int kStages_>
struct GemmShape {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kDepth = 64, kStages = kStages_;
  static constexpr int kWarpRows = kWarpRows_, kWarpColumns = kWarpColumns_;
  static constexpr int kWarpsDown = kRows / kWarpRows, kWarpsAcross = kColumns / kWarpColumns;
  static constexpr int kThreads = 32 * kWarpsDown * kWarpsAcross;
  static constexpr int kStageElements = (kRows + kColumns) * kDepth;  // a tile of x, then a tile of w
  static constexpr int kAccStride = kColumns + 8;                     // of acc in shared memory: rows are 8 banks apart
  static constexpr size_t kTileBytes = size_t(kStages) * kStageElements * sizeof(bf16);
  static constexpr size_t kAccBytes = size_t(kRows) * kAccStride * sizeof(float);
  static constexpr size_t kSharedBytes = kTileBytes > kAccBytes ? kTileBytes : kAccBytes;
  // A warp's acc: fragments of multiply_bf16, each [16, 8] of out.
  using Acc = float[kWarpRows / 16][kWarpColumns / 8][4];
};
using LargeGemm = GemmShape<128, 128, 64, 32, 3>;
using SmallGemm = GemmShape<64, 64, 32, 32, 2>;

// Where this thread's block lies in out, and its warp in the block.
template <typename S>
struct GemmPlace {
  int lane, row, column, warp_row, warp_column;
};
template <typename S>
LA_DEVICE GemmPlace<S> gemm_place() {
  const int warp = int(threadIdx.x / 32);
  return {int(threadIdx.x % 32), int(blockIdx.y) * S::kRows, int(blockIdx.x) * S::kColumns,
          warp / S::kWarpsAcross * S::kWarpRows, warp % S::kWarpsAcross * S::kWarpColumns};
}

// Starts the copies of a step's tiles.
template <typename S, bool kAligned>
LA_DEVICE void prefetch(const GemmArgs& g, const GemmPlace<S>& place, int step) {
  if (step * S::kDepth < g.k) {
    bf16* stage = dynamic_shared<bf16>() + step % S::kStages * S::kStageElements;
    fill_tile<S::kRows, S::kDepth, S::kThreads, kAligned>(stage, {g.x, g.k, g.m, g.k}, place.row, step * S::kDepth);
    fill_tile<S::kColumns, S::kDepth, S::kThreads, true>(stage + S::kRows * S::kDepth, {g.w, g.w_stride, g.n, g.k},
                                                         place.column, step * S::kDepth);
  }
  commit_copies();  // also of nothing: there are as many groups as steps
}

// acc += a step's tile of x times its tile of w.
template <typename S>
LA_DEVICE void accumulate(typename S::Acc& acc, const GemmPlace<S>& place, int step) {
  const bf16* x_tile = dynamic_shared<bf16>() + step % S::kStages * S::kStageElements;
  const bf16* w_tile = x_tile + S::kRows * S::kDepth;
#pragma unroll
  for (int k = 0; k < S::kDepth; k += 16) {
    uint32_t a[S::kWarpRows / 16][4], b[S::kWarpColumns / 16][4];
#pragma unroll
    for (int i = 0; i < S::kWarpRows / 16; ++i) {
      load_a<S::kDepth>(a[i], x_tile, place.warp_row + i * 16, k, place.lane);
    }
#pragma unroll
    for (int j = 0; j < S::kWarpColumns / 16; ++j) {
      load_b<S::kDepth>(b[j], w_tile, place.warp_column + j * 16, k, place.lane);
    }
#pragma unroll
    for (int i = 0; i < S::kWarpRows / 16; ++i) {
#pragma unroll
      for (int j = 0; j < S::kWarpColumns / 8; ++j) {
        multiply_bf16(acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }
}

// acc to shared memory as a matrix [kRows, kAccStride]: then a warp writes whole lines of out.
template <typename S>
LA_DEVICE void store_acc(const typename S::Acc& acc, const GemmPlace<S>& place) {
  float* tile = dynamic_shared<float>();
#pragma unroll
  for (int i = 0; i < S::kWarpRows / 16; ++i) {
#pragma unroll
    for (int j = 0; j < S::kWarpColumns / 8; ++j) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int r = place.warp_row + i * 16 + place.lane / 4 + h * 8;
        const int c = place.warp_column + j * 8 + place.lane % 4 * 2;
        *reinterpret_cast<Vec<float, 2>*>(tile + r * S::kAccStride + c) = {acc[i][j][2 * h], acc[i][j][2 * h + 1]};
      }
    }
  }
}

// What follows the product, from acc in shared memory to out.
template <typename S, typename Out>
LA_DEVICE void store_out(const GemmArgs& g, const GemmPlace<S>& place) {
  const float* tile = dynamic_shared<float>();
#pragma unroll 4
  for (int at = int(threadIdx.x); at < S::kRows * S::kColumns; at += S::kThreads) {
    const int r = at / S::kColumns, c = at % S::kColumns;
    const int row = place.row + r, column = place.column + c;
    if (row >= g.m || column >= g.n) continue;
    float y = tile[r * S::kAccStride + c];
    if (g.bias != nullptr) y += g.bias[column];
    y = activate(y, g.activation);
    if (g.gate != nullptr) y *= g.gate[int64_t(row / g.rows_per_gate) * g.n + column];
    const int64_t out_at = int64_t(row) * g.n + column;
    if (g.residual != nullptr) y += to_float(static_cast<const Out*>(g.residual)[out_at]);
    put(static_cast<Out*>(g.out) + out_at, y);
  }
}

// kAligned: k is a multiple of 8.
template <typename S, bool kAligned, typename Out>
__global__ void __launch_bounds__(S::kThreads) gemm(LA_PARAMETER GemmArgs g) {
  const GemmPlace<S> place = gemm_place<S>();
  const int steps = (g.k + S::kDepth - 1) / S::kDepth;
  typename S::Acc acc = {};
  for (int step = 0; step < S::kStages - 1; ++step) prefetch<S, kAligned>(g, place, step);
  for (int step = 0; step < steps; ++step) {
    wait_copies<S::kStages - 2>();
    sync_threads();  // all threads' copies of this step have landed, and nobody reads the step before any more
    prefetch<S, kAligned>(g, place, step + S::kStages - 1);
    accumulate<S>(acc, place, step);
  }
  wait_copies<0>();
  sync_threads();  // before acc overwrites the tiles
  store_acc<S>(acc, place);
  sync_threads();
  store_out<S, Out>(g, place);
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
