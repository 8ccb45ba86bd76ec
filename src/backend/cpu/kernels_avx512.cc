// The kernels in AVX-512: everything in f32 multiply-adds.
#include <immintrin.h>

#include "backend/cpu/kernels.h"

#define LA_TILE_COLUMNS 64

namespace liveavatar::cpu {

// In this order: each uses the one before.
#include "backend/cpu/simd_avx512.inl"
//
#include "backend/cpu/tile.inl"
//
#include "backend/cpu/rows.inl"

const Kernels* avx512_kernels() {
  static const Kernels kernels = [] {
    Kernels k;
    k.name = "avx512";
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
