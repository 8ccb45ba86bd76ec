// AVX-512 with the dot products of bf16 pairs and of four bytes (VNNI, which every CPU with AVX512-BF16 has).
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
//
#include "backend/cpu/int8.inl"
//
#include "backend/cpu/vnni.inl"

namespace {

// Pairs (k, k + 1) of a row times pairs of the panel. k is even (the caller pads odd rows).
template <int R, int V = kVectors>
void dot_rows(const TileArgs& t) {
  const long stride = stride_of(t);
  __m512 sum[R][V];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      sum[r][v] = t.accumulate ? _mm512_loadu_ps(t.acc + r * stride + v * 16) : _mm512_setzero_ps();
  }
  const char* b = static_cast<const char*>(t.b);
  for (long tap = 0; tap < t.taps; ++tap) {
    const int* a[R];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) a[r] = static_cast<const int*>(t.a[tap * R + r]);
    for (long pair = 0; pair < t.k / 2; ++pair, b += 256) {
      __m512bh w[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) w[v] = (__m512bh)_mm512_loadu_si512(b + 64 * v);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        int bits;
        __builtin_memcpy(&bits, a[r] + pair, 4);
        __m512bh x = (__m512bh)_mm512_set1_epi32(bits);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], x, w[v]);
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(t.acc + r * stride + v * 16, sum[r][v]);
  }
}

void dot_tile(const TileArgs& t) {
  switch (t.rows) {
    case 1:
      return dot_rows<1>(t);
    case 2:
      return dot_rows<2>(t);
    case 3:
      return dot_rows<3>(t);
    case 4:
      return dot_rows<4>(t);
    case 5:
      return dot_rows<5>(t);
    default:
      if (t.columns <= Vec::kLanes) return dot_rows<6, 1>(t);
      if (t.columns <= 2 * Vec::kLanes) return dot_rows<6, 2>(t);
      if (t.columns <= 3 * Vec::kLanes) return dot_rows<6, 3>(t);
      return dot_rows<6>(t);
  }
}

inline Vec dot_pairs(Vec a, Vec b, Vec sum) { return {_mm512_dpbf16_ps(sum.v, (__m512bh)a.v, (__m512bh)b.v)}; }

}  // namespace

const Kernels* avx512bf16_kernels() {
  static const Kernels kernels = [] {
    Kernels k = fma_kernels("avx512bf16");
    k.tile[1][1] = dot_tile;
    k.small_output[1] = small_output<dot_pairs>;
    k.multiplies_bf16 = true;
    k.quantise_row = quantise_row;
    k.quantise_key = quantise_key;
    k.groups_i8 = groups_i8;
    k.int8_tile = int8_tile;
    k.scale_i8 = scale_i8;
    k.softmax_weights_i8 = softmax_weights_i8;
    k.largest_of = largest_of;
    k.quantise_values = quantise_values;
    k.add_i8 = add_i8;
    return k;
  }();
  return &kernels;
}

}  // namespace liveavatar::cpu
