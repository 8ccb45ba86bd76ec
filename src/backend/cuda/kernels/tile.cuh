// Tiles of bf16 in shared memory: their layout, how they are filled and how warps read them as operands of a product.
// A row of a tile is a whole multiple of 128 bytes (64 elements): once over all 32 banks.
#pragma once

#include "backend/cuda/kernels/device.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

// A row-major matrix in global memory, of which only `rows` x `columns` may be read; rows are `stride` elements apart.
struct MatrixView {
  const bf16* data;
  int64_t stride;
  int rows, columns;
};

// Where element [row, column] lies. Chunks of 8 elements (16 bytes) of a row are permuted by the row's number, so that
// neither the 8 rows that ldmatrix reads at once nor the chunks of a row meet in one bank.
template <int kColumns>
LA_DEVICE int tile_offset(int row, int column) {
  static_assert(kColumns % 64 == 0, "a row is a multiple of 128 bytes");
  return row * kColumns + (((column / 8) ^ (row % 8)) * 8) + column % 8;
}

// Fills tile [kRows, kColumns] with the matrix from [row, column] on; what lies outside of the matrix becomes zeros.
// kAligned: rows of the matrix begin at multiples of 16 bytes, and so does `column`. Then the copies are asynchronous
// and the caller commits and waits; otherwise they are done by the threads themselves.
template <int kRows, int kColumns, int kThreads, bool kAligned>
LA_DEVICE void fill_tile(bf16* tile, const MatrixView& matrix, int row, int column) {
  constexpr int kChunks = kColumns / 8;
  static_assert(kRows * kChunks % kThreads == 0, "every thread copies as many chunks");
#pragma unroll
  for (int i = 0; i < kRows * kChunks / kThreads; ++i) {
    const int at = i * kThreads + int(threadIdx.x), r = at / kChunks, c = at % kChunks * 8;
    bf16* target = tile + tile_offset<kColumns>(r, c);
    const int left = row + r < matrix.rows ? matrix.columns - (column + c) : 0;
    const int valid = left < 0 ? 0 : (left > 8 ? 8 : left);  // elements of the chunk that exist
    const bf16* source = valid == 0 ? matrix.data : matrix.data + (row + r) * matrix.stride + column + c;
    if constexpr (kAligned) {
      copy_async(target, source, unsigned(valid) * 2);
    } else {
      Vec<bf16, 8> v;
      for (int e = 0; e < 8; ++e) v.at[e] = e < valid ? source[e] : bf16{0};
      *reinterpret_cast<Vec<bf16, 8>*>(target) = v;
    }
  }
}

// The operand a [16, 16] from tile rows [row, row + 16).
template <int kColumns>
LA_DEVICE void load_a(uint32_t (&a)[4], const bf16* tile, int row, int column, int lane) {
  load_matrices(a, tile + tile_offset<kColumns>(row + lane % 16, column + lane / 16 * 8));
}

// Two operands b [16, 8] from a tile [n, k], whose rows are b's columns: n 0..7 in b[0], b[1] and n 8..15 in b[2],
// b[3].
template <int kColumns>
LA_DEVICE void load_b(uint32_t (&b)[4], const bf16* tile, int n, int k, int lane) {
  load_matrices(b, tile + tile_offset<kColumns>(n + lane / 16 * 8 + lane % 8, k + lane / 8 % 2 * 8));
}

// The same from a tile [k, n], whose rows are b's rows.
template <int kColumns>
LA_DEVICE void load_b_transposed(uint32_t (&b)[4], const bf16* tile, int k, int n, int lane) {
  load_matrices_transposed(b, tile + tile_offset<kColumns>(k + lane % 16, n + lane / 16 * 8));
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
