// Tiles of bf16 in shared memory: their layout, how they are filled and how warps read them as operands of a product.
// A row of a tile is a whole multiple of 128 bytes (64 elements): once over all 32 banks.
#pragma once

#include "backend/cuda/kernels/eight_bit_float.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

constexpr int kChunk = 8;  // elements of a tile that lie side by side: 16 bytes

// A row-major matrix in global memory, of which only `rows` x `columns` may be read; rows are `stride` elements apart.
// Chunks of its rows are aligned, and `columns` is a multiple of kChunk.
template <typename T>
struct MatrixView {
  const T* data;
  int64_t stride;
  int rows, columns;
};

// Where element [row, column] lies. Chunks of 8 elements (16 bytes) of a row are permuted by the row's number, so that
// neither the 8 rows that ldmatrix reads at once nor the chunks of a row meet in one bank.
template <int kColumns>
LA_DEVICE int tile_offset(int row, int column) {
  static_assert(kColumns % 64 == 0, "a row is a multiple of 128 bytes");
  return row * kColumns + (((column / kChunk) ^ (row % 8)) * kChunk) + column % kChunk;
}

// Eight values to bf16; bits that bf16 does not have are cut off.
LA_DEVICE Vec<uint32_t, 4> high_halves(const float (&values)[kChunk]) {
  Vec<uint32_t, 4> v;
#pragma unroll
  for (int i = 0; i < 4; ++i) v.at[i] = as_bits(values[2 * i]) >> 16 | (as_bits(values[2 * i + 1]) & 0xffff0000u);
  return v;
}

// Starts to fill tile [kRows, kColumns] with the matrix from `row` on; what lies outside of the matrix becomes zeros.
// The caller commits and waits. Elements of 8 bits come, as they are, into the first half of their chunk.
template <int kRows, int kColumns, int kThreads, typename T>
LA_DEVICE void fill_tile(bf16* tile, const MatrixView<T>& matrix, int row) {
  constexpr int kChunks = kColumns / kChunk, kBytes = kChunk * int(sizeof(T));
  static_assert(kRows * kChunks % kThreads == 0, "every thread copies as many chunks");
#pragma unroll
  for (int i = 0; i < kRows * kChunks / kThreads; ++i) {
    const int at = i * kThreads + int(threadIdx.x), r = at / kChunks, c = at % kChunks * kChunk;
    const bool exists = row + r < matrix.rows && c < matrix.columns;
    const T* source = exists ? matrix.data + (row + r) * matrix.stride + c : matrix.data;
    copy_async<kBytes>(tile + tile_offset<kColumns>(r, c), source, exists ? kBytes : 0);
  }
}

// Elements of 8 bits to bf16, exactly, where they are: each thread those that it copied, before the barrier behind
// which others read them.
template <int kRows, int kColumns, int kThreads, typename T>
LA_DEVICE void unpack_tile(bf16* tile) {
  constexpr int kChunks = kColumns / kChunk;
#pragma unroll 4
  for (int i = 0; i < kRows * kChunks / kThreads; ++i) {
    const int at = i * kThreads + int(threadIdx.x);
    bf16* chunk = tile + tile_offset<kColumns>(at / kChunks, at % kChunks * kChunk);
    const Vec<T, kChunk> packed = *reinterpret_cast<const Vec<T, kChunk>*>(chunk);
    float values[kChunk];
#pragma unroll
    for (int e = 0; e < kChunk; ++e) values[e] = to_float(packed.at[e]);
    *reinterpret_cast<Vec<uint32_t, 4>*>(chunk) = high_halves(values);
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
