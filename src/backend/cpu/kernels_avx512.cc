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
#include "backend/cpu/math.inl"
//
#include "backend/cpu/unpack.inl"
//
#include "backend/cpu/small_output.inl"
//
#include "backend/cpu/rows.inl"

const Kernels* avx512_kernels() {
  static const Kernels kernels = fma_kernels("avx512");
  return &kernels;
}

}  // namespace liveavatar::cpu
