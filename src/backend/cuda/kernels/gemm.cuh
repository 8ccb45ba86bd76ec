// out = residual + gate * activation(x w^T + bias) on tensor cores: of a matrix x, or of what a convolution reads.
// Operands are multiplied as bf16, f32 as three of them, or both in 8 bits. Sums are f32 in one order for every row, or
// exact, so that a row's bits depend neither on the rows beside it nor on the shape of blocks.
#pragma once

#include <type_traits>

#include "backend/cuda/kernels/gemm_tiles.cuh"
#include "backend/cuda/kernels/product_args.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

// A block computes kRows x kColumns of out, a warp of it kWarpRows x kWarpColumns. A step multiplies kGemmDepth columns
// of x and w. kStages tiles of each operand are in shared memory: one is multiplied while the others are being copied.
template <int kRows_, int kColumns_, int kWarpRows_, int kWarpColumns_, int kStages_, int kParts_>
struct GemmShape {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kStages = kStages_, kParts = kParts_;
  static constexpr int kWarpRows = kWarpRows_, kWarpColumns = kWarpColumns_;
  static constexpr int kWarpsDown = kRows / kWarpRows, kWarpsAcross = kColumns / kWarpColumns;
  static constexpr int kThreads = 32 * kWarpsDown * kWarpsAcross;
  static constexpr int kXTile = kRows * kGemmDepth;                               // elements
  static constexpr int kStageElements = kParts * kXTile + kColumns * kGemmDepth;  // tiles of x, then one of w
  static constexpr int kAccStride = kColumns + 8;  // of acc in shared memory: rows are 8 banks apart
  static constexpr size_t kTileBytes = size_t(kStages) * kStageElements * sizeof(bf16);
  static constexpr size_t kAccBytes = size_t(kRows) * kAccStride * sizeof(float);
  static constexpr size_t kSharedBytes = kTileBytes > kAccBytes ? kTileBytes : kAccBytes;
  static_assert(kSharedBytes <= 99 * 1024);
  static constexpr int kBlocks = kThreads == 256 ? 2 : 3;  // at once on a processor, as far as registers go
};

// By the type of x.
template <typename X>
struct GemmShapes {
  using Large = GemmShape<128, 128, 64, 32, 3, 1>;
  using Small = GemmShape<64, 64, 32, 32, 2, 1>;
};
template <>
struct GemmShapes<float> {
  using Large = GemmShape<64, 128, 32, 32, 2, 3>;
  using Small = GemmShape<64, 64, 32, 32, 2, 3>;
};

// kAsync: 16 bytes of x lie side by side and aligned.
template <typename Shape, typename In_, typename W_, bool kAsync_>
struct Gemm : Shape {
  using In = In_;  // MatrixInput, ConvInput or QuantisedInput
  using W = W_;
  static constexpr bool kAsync = kAsync_;
  // Addresses without vectors take many registers, and so do e4m3 where they are multiplied as f16 (sm_90).
  static constexpr bool kIsE4m3 = std::is_same_v<W, Pair<e4m3>>;
  static constexpr int kLeastBlocks = kAsync && !kIsE4m3 ? Shape::kBlocks : 1;
  static constexpr int kUnrolled = kIsE4m3 ? 2 : kGemmDepth / 16;
  // Of a warp: fragments of products, each [16, 8] of out.
  using Acc = typename SumOf<W>::Type[Shape::kWarpRows / 16][Shape::kWarpColumns / 8][4];
};

// Where this thread's block lies in its group's columns of out, and its warp in the block. Blocks that follow each
// other share rows of x. A grid's y would be too short for the rows of a video.
template <typename S>
struct GemmPlace {
  int lane, row, column, warp_row, warp_column;
};
template <typename S>
LA_DEVICE GemmPlace<S> gemm_place(int group_columns) {
  const int warp = int(threadIdx.x / 32), across = (group_columns + S::kColumns - 1) / S::kColumns;
  return {int(threadIdx.x % 32), int(blockIdx.x) / across * S::kRows, int(blockIdx.x) % across * S::kColumns,
          warp / S::kWarpsAcross * S::kWarpRows, warp % S::kWarpsAcross * S::kWarpColumns};
}

// What a thread fills of the tiles.
template <typename S>
struct GemmRows {
  XRows<S> x;
  WRows<S> w;
};
template <typename S>
LA_DEVICE void find_rows(GemmRows<S>& rows, const ProductArgs<typename S::In>& p, const GemmPlace<S>& place) {
#pragma unroll
  for (int i = 0; i < XShare<S>::kCount; ++i) rows.x[i] = p.x.row(place.row + XShare<S>::row(i));
#pragma unroll
  for (int i = 0; i < WShare<S>::kCount; ++i) {
    const int column = place.column + WShare<S>::row(i);
    const int64_t n = int64_t(blockIdx.z) * p.group_columns + column;
    rows.w[i] = column < p.group_columns ? weight_row(p.w, n) : nullptr;
  }
}

template <typename S>
LA_DEVICE bf16* x_tiles(int step) {
  return dynamic_shared<bf16>() + step % S::kStages * S::kStageElements;
}
template <typename S>
LA_DEVICE bf16* w_tile(int step) {
  return x_tiles<S>(step) + S::kParts * S::kXTile;
}

// Starts the copies of a step's tiles.
template <typename S>
LA_DEVICE void prefetch(const ProductArgs<typename S::In>& p, const GemmRows<S>& rows, int step) {
  if (step * kGemmDepth < p.x.k_end) {
    prefetch_x<S>(x_tiles<S>(step), p.x, rows.x, step * kGemmDepth);
    prefetch_w<S>(w_tile<S>(step), p.w, rows.w, step * kGemmDepth);
  }
  commit_copies();  // also of nothing: there are as many groups as steps
}

// What this thread copied becomes bf16.
template <typename S>
LA_DEVICE void unpack(const BlockScales<S>& scales, int step) {
  if constexpr (S::kParts > 1) split_x<S>(x_tiles<S>(step));
  if constexpr (sizeof(typename S::W) == 1) unpack_w<S>(w_tile<S>(step), scales);
}

template <typename W>
LA_DEVICE void multiply(typename SumOf<W>::Type (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (kIsPair<W>) {
    multiply_8bit(d, a, b0, b1);
  } else {
    multiply_bf16(d, a, b0, b1);
  }
}

// acc += a step's tiles of x times its tile of w.
template <typename S>
LA_DEVICE void accumulate(typename S::Acc& acc, const GemmPlace<S>& place, int step) {
#pragma unroll(S::kUnrolled)
  for (int k = 0; k < kGemmDepth; k += 16) {
    uint32_t b[S::kWarpColumns / 16][4];
#pragma unroll
    for (int j = 0; j < S::kWarpColumns / 16; ++j) {
      load_b<kGemmDepth>(b[j], w_tile<S>(step), place.warp_column + j * 16, k, place.lane);
    }
#pragma unroll
    for (int part = 0; part < S::kParts; ++part) {
      uint32_t a[S::kWarpRows / 16][4];
#pragma unroll
      for (int i = 0; i < S::kWarpRows / 16; ++i) {
        load_a<kGemmDepth>(a[i], x_tiles<S>(step) + part * S::kXTile, place.warp_row + i * 16, k, place.lane);
      }
#pragma unroll
      for (int i = 0; i < S::kWarpRows / 16; ++i) {
#pragma unroll
        for (int j = 0; j < S::kWarpColumns / 8; ++j) {
          multiply<typename S::W>(acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
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
        *reinterpret_cast<Vec<float, 2>*>(tile + r * S::kAccStride + c) = {float(acc[i][j][2 * h]),
                                                                           float(acc[i][j][2 * h + 1])};
      }
    }
  }
}

// What follows the product, from acc in shared memory to out. A thread has one column.
template <typename S>
LA_DEVICE void store_out(const ProductArgs<typename S::In>& p, const GemmPlace<S>& place) {
  static_assert(S::kThreads % S::kColumns == 0);
  const int c = int(threadIdx.x) % S::kColumns, column = int(blockIdx.z) * p.group_columns + place.column + c;
  if (place.column + c >= p.group_columns) return;
  float scale = 1;
  if constexpr (kScalesRows<typename S::W>) scale = weight_scale<typename S::W>(p.w, column, 0);
  const float* tile = dynamic_shared<float>() + c;
#pragma unroll 4
  for (int r = int(threadIdx.x) / S::kColumns; r < S::kRows; r += S::kThreads / S::kColumns) {
    if (place.row + r >= p.x.rows) break;
    float y = tile[r * S::kAccStride] * scale;
    if constexpr (kIsPair<typename S::W>) y *= p.x.scale[place.row + r];
    store_product(p, p.first_row + place.row + r, column, y);
  }
}

// S: a Gemm.
template <typename S>
__global__ void __launch_bounds__(S::kThreads, S::kLeastBlocks) gemm(LA_PARAMETER ProductArgs<typename S::In> p) {
  const GemmPlace<S> place = gemm_place<S>(p.group_columns);
  const int64_t first_weight = int64_t(blockIdx.z) * p.group_columns + place.column;
  const int steps = (p.x.k_end + kGemmDepth - 1) / kGemmDepth;
  GemmRows<S> rows;
  find_rows<S>(rows, p, place);
  BlockScales<S> scales;
  read_scales<S>(scales, p.w, rows.w, first_weight, 0);
  typename S::Acc acc = {};
  for (int step = 0; step < S::kStages - 1; ++step) prefetch<S>(p, rows, step);
  for (int step = 0; step < steps; ++step) {
    wait_copies<S::kStages - 2>();
    unpack<S>(scales, step);
    sync_threads();  // all threads' tiles of this step are there, and nobody reads the step before any more
    read_scales<S>(scales, p.w, rows.w, first_weight, (step + 1) * kGemmDepth);
    prefetch<S>(p, rows, step + S::kStages - 1);
    accumulate<S>(acc, place, step);
  }
  wait_copies<0>();
  sync_threads();  // before acc overwrites the tiles
  store_acc<S>(acc, place);
  sync_threads();
  store_out<S>(p, place);
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
