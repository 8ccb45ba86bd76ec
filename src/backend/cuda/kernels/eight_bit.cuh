// A bare product of 8-bit operands, one warp for [16, 8] of out: it checks the layout of the fragments, on which gemm's
// 8-bit products are built.
#pragma once

#include "backend/cuda/kernels/pairs.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

// a [16, k], b [8, k] bytes, s8 where Out is int and e4m3 where it is float; k is a multiple of 32. d [16, 8].
template <typename Out>
__global__ void __launch_bounds__(32) product_8bit(const uint8_t* a, const uint8_t* b, int k, Out* d) {
  const int g = int(threadIdx.x) / 4, t = int(threadIdx.x) % 4;
  Out acc[4] = {};
  for (int at = 0; at < k; at += 32) {
    auto word = [&](const uint8_t* matrix, int row, int column) {
      return *reinterpret_cast<const uint32_t*>(matrix + row * k + at + column);
    };
    const uint32_t x[4] = {word(a, g, t * 4), word(a, g + 8, t * 4), word(a, g, t * 4 + 16),
                           word(a, g + 8, t * 4 + 16)};
    multiply_8bit(acc, x, word(b, g, t * 4), word(b, g, t * 4 + 16));
  }
  for (int e = 0; e < 4; ++e) d[(g + e / 2 * 8) * 8 + t * 2 + e % 2] = acc[e];
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
