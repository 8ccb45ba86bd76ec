// AMX: products of bf16 and of 8-bit values on tiles, all other kernels with AVX-512. AMX CPUs multiply pairs of bf16
// in vectors at half the rate of f32, so products that do not use tiles are in f32.
#include <immintrin.h>

#include "backend/cpu/kernels.h"

#define LA_TILE_COLUMNS 32  // two tiles: 512 k of a panel fill an L1 cache

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
#include "backend/cpu/tiles_amx.inl"
//
#include "backend/cpu/tiles_emulated.inl"
//
#include "backend/cpu/matrix.inl"

namespace {

static_assert(LA_TILE_COLUMNS == 32, "two vectors of columns, two tiles of accumulators");

// As in kernels.h: a vector has two rows of int8 values; two vectors give sixteen columns of groups of four.
void groups_i8(const void* quantised, int64_t k, void* groups_of_4, int* offsets) {
  const char* from = static_cast<const char*>(quantised);
  char* to = static_cast<char*>(groups_of_4);
  alignas(64) unsigned char order[64];
  for (int i = 0; i < 64; ++i) order[i] = static_cast<unsigned char>(i % 4 * 32 + i / 4);
  const __m512i low = _mm512_load_si512(order), high = _mm512_add_epi8(low, _mm512_set1_epi8(16));
  const __m512i middle = _mm512_set1_epi8(static_cast<char>(128));
  __m512i sum[2] = {_mm512_loadu_si512(offsets), _mm512_loadu_si512(offsets + 16)};
  for (long row = 0; row < k; row += 4, from += 128, to += 128) {
    __m512i a = _mm512_loadu_si512(from);
    __m512i b = row + 2 < k ? _mm512_loadu_si512(from + 64) : _mm512_setzero_si512();
    const __m512i out[2] = {_mm512_permutex2var_epi8(a, low, b), _mm512_permutex2var_epi8(a, high, b)};
    for (int v = 0; v < 2; ++v) {
      _mm512_storeu_si512(to + 64 * v, out[v]);
      sum[v] = _mm512_dpbusd_epi32(sum[v], middle, out[v]);
    }
  }
  for (int v = 0; v < 2; ++v) _mm512_storeu_si512(offsets + 16 * v, sum[v]);
}

template <typename Tiles>
Kernels tile_kernels(const char* name) {
  Kernels k = fma_kernels(name);
  k.matrix = matrix<Tiles, false>;
  k.matrix_i8 = matrix<Tiles, true>;
  k.quantise_row = quantise_row;
  k.quantise_key = quantise_key;
  k.groups_i8 = groups_i8;
  k.scale_i8 = scale_i8;
  k.softmax_weights_i8 = softmax_weights_i8;
  k.largest_of = largest_of;
  k.quantise_values = quantise_values;
  k.add_i8 = add_i8;
  return k;
}

}  // namespace

const Kernels* amx_kernels() {
  static const Kernels kernels = tile_kernels<AmxTiles>("amx");
  return &kernels;
}

const Kernels* amx_emulated_kernels() {
  static const Kernels kernels = tile_kernels<EmulatedTiles>("amx-model");
  return &kernels;
}

}  // namespace liveavatar::cpu
