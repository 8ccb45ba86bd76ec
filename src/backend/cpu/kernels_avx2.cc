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
#include "backend/cpu/math.inl"
//
#include "backend/cpu/unpack.inl"
//
#include "backend/cpu/small_output.inl"
//
#include "backend/cpu/rows.inl"

const Kernels* avx2_kernels() {
  static const Kernels kernels = fma_kernels("avx2");
  return &kernels;
}

}  // namespace liveavatar::cpu
