// How the tiles of x and w come into shared memory for gemm, whatever the operands' types.
//
// Values travel asynchronously and as they are, 16 bytes at a time, to places that their bf16 will take. The thread
// that copied them unpacks them there once they have landed: no other reads them before the barrier that follows, so
// that no type costs memory, registers or a barrier more than bf16 does.
#pragma once

#include "backend/cuda/kernels/packed_weights.cuh"
#include "backend/cuda/kernels/product_input.cuh"
#include "backend/cuda/kernels/tile.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

constexpr int kGemmDepth = 64;  // columns of a tile

// A thread's share of a tile of kRows: kValues columns, which are the same in every row that it fills.
template <int kRows, int kThreads, int kValues>
struct TileShare {
  static constexpr int kAcross = kGemmDepth / kValues, kRowStep = kThreads / kAcross, kCount = kRows / kRowStep;
  static_assert(kRows % kRowStep == 0, "every thread fills as many rows");

  LA_DEVICE static int column() { return int(threadIdx.x) % kAcross * kValues; }
  LA_DEVICE static int row(int i) { return int(threadIdx.x) / kAcross + i * kRowStep; }
  LA_DEVICE static bf16* place(bf16* tile, int i) { return tile + tile_offset<kGemmDepth>(row(i), column()); }
};

// ---- x: [kRows, kGemmDepth] for each part of a value ----

// f32 is the sum of three bf16, its bits from the highest down.
template <typename X>
inline constexpr int kPartsOf = 1;
template <>
inline constexpr int kPartsOf<float> = 3;

template <typename S>
using XShare = TileShare<S::kRows, S::kThreads, kChunk>;
template <typename S>
using XRows = typename S::In::Row[XShare<S>::kCount];

// The tile's columns from k on. 8 values of f32 go to the places of their first two parts.
template <typename S>
LA_DEVICE void prefetch_x(bf16* tiles, const typename S::In& x, const XRows<S>& rows, int k) {
  using X = typename S::In::Element;
  constexpr int kValues = 16 / sizeof(X);
#pragma unroll
  for (int half = 0; half < kChunk / kValues; ++half) {
    const int first = k + XShare<S>::column() + half * kValues;
    if constexpr (S::kAsync) {
      const bool exists = first < x.k_end;
      const typename S::In::Column column = x.column(exists ? first : 0);
#pragma unroll
      for (int i = 0; i < XShare<S>::kCount; ++i) {
        const X* at = exists ? x.element(rows[i], column) : nullptr;
        copy_async(XShare<S>::place(tiles + half * S::kXTile, i), at == nullptr ? x.x : at, at == nullptr ? 0 : 16);
      }
    } else {
      X values[XShare<S>::kCount][kValues];
      read_rows<1>(values, x, rows, first);
#pragma unroll
      for (int i = 0; i < XShare<S>::kCount; ++i) {
        Vec<X, kValues> v;
#pragma unroll
        for (int e = 0; e < kValues; ++e) v.at[e] = values[i][e];
        *reinterpret_cast<Vec<X, kValues>*>(XShare<S>::place(tiles + half * S::kXTile, i)) = v;
      }
    }
  }
}

// f32 to its three parts, which are cut and not rounded: 8 bits each, so that nothing is left over.
template <typename S>
LA_DEVICE void split_x(bf16* tiles) {
#pragma unroll
  for (int i = 0; i < XShare<S>::kCount; ++i) {
    bf16* place = XShare<S>::place(tiles, i);
    const Vec<float, 4> low = *reinterpret_cast<const Vec<float, 4>*>(place);
    const Vec<float, 4> high = *reinterpret_cast<const Vec<float, 4>*>(place + S::kXTile);
    float rest[kChunk];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      rest[e] = low.at[e];
      rest[4 + e] = high.at[e];
    }
#pragma unroll
    for (int part = 0; part < S::kParts; ++part) {
      *reinterpret_cast<Vec<uint32_t, 4>*>(place + part * S::kXTile) = high_halves(rest);
#pragma unroll
      for (int e = 0; e < kChunk; ++e) rest[e] -= as_float(as_bits(rest[e]) & 0xffff0000u);
    }
  }
}

// ---- w: [kColumns, kGemmDepth] ----

template <typename S>
using WShare = TileShare<S::kColumns, S::kThreads, kValuesOf<typename S::W>>;
template <typename S>
using WRows = const uint8_t * [WShare<S>::kCount];  // null: no such row

// Whether a row has one scale, which multiplies its sum. Those of kQ4 are exact in bf16 with their values.
template <typename W>
inline constexpr bool kScalesRows = kHasScales<W> && kValuesOf<W> != 32;

// The tile's columns from k on: packed rows are whole pieces of 16 bytes.
template <typename S>
LA_DEVICE void prefetch_w(bf16* tile, const PackedMatrix& w, const WRows<S>& rows, int k) {
  const int first = k + WShare<S>::column();
  const int64_t offset = int64_t(first) / kValuesOf<typename S::W> * 16;
#pragma unroll
  for (int i = 0; i < WShare<S>::kCount; ++i) {
    const bool exists = first < w.k && rows[i] != nullptr;
    copy_async(WShare<S>::place(tile, i), exists ? rows[i] + offset : static_cast<const uint8_t*>(w.data),
               exists ? 16 : 0);
  }
}

// Of the blocks of kQ4 that a thread unpacks; else nothing.
template <typename S>
struct BlockScales {
  float at[kValuesOf<typename S::W> == 32 ? WShare<S>::kCount : 1];
};

// first_row: the tile's first in w.
template <typename S>
LA_DEVICE void read_scales(BlockScales<S>& scales, const PackedMatrix& w, const WRows<S>& rows, int64_t first_row,
                           int k) {
  if constexpr (kValuesOf<typename S::W> == 32) {
    const int first = k + WShare<S>::column();
#pragma unroll
    for (int i = 0; i < WShare<S>::kCount; ++i) {
      const bool exists = first < w.k && rows[i] != nullptr;
      scales.at[i] = exists ? weight_scale<Nibbles>(w, first_row + WShare<S>::row(i), first) : 0.0f;
    }
  }
}

// Quantised values to bf16, exactly.
template <typename S>
LA_DEVICE void unpack_w(bf16* tile, const BlockScales<S>& scales) {
  using W = typename S::W;
#pragma unroll
  for (int i = 0; i < WShare<S>::kCount; ++i) {
    float values[kValuesOf<W>];
    widen<W>(*reinterpret_cast<const Vec<W, 16>*>(WShare<S>::place(tile, i)), values);
#pragma unroll
    for (int first = 0; first < kValuesOf<W>; first += kChunk) {
      float chunk[kChunk];
#pragma unroll
      for (int e = 0; e < kChunk; ++e) {
        chunk[e] = kScalesRows<W> ? values[first + e] : values[first + e] * scales.at[i];
      }
      const int at = tile_offset<kGemmDepth>(WShare<S>::row(i), WShare<S>::column() + first);
      *reinterpret_cast<Vec<uint32_t, 4>*>(tile + at) = high_halves(chunk);
    }
  }
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
