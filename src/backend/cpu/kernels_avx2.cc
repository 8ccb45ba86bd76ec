// The kernels in AVX2 with FMA: everything in f32 multiply-adds.
#include <immintrin.h>

#include "backend/cpu/kernels.h"

#define LA_TILE_COLUMNS 16

namespace liveavatar::cpu {

// In this order: each uses the one before.
#include "backend/cpu/simd_avx2.inl"
//
#include "backend/cpu/tile.inl"
//
#include "backend/cpu/rows.inl"

const Kernels* avx2_kernels() {
  static const Kernels kernels = [] {
    Kernels k;
    k.name = "avx2";
    k.columns = LA_TILE_COLUMNS;
    k.tile[0][0] = tile<F32, false>;
    k.tile[0][1] = tile<F32, true>;
    k.tile[1][0] = tile<BF16, false>;
    k.tile[1][1] = tile<BF16, true>;
    fill_row_kernels(k);
    return k;
  }();
  return &kernels;
}

}  // namespace liveavatar::cpu
