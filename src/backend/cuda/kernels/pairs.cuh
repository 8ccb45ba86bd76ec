// 8-bit operands of products: tensor cores multiply them as they are. A fragment of m16n8k32 is one of m16n8k16 whose
// 16-bit elements are pairs of bytes, so that what moves bf16 moves pairs as well.
#pragma once

#include "backend/cuda/kernels/eight_bit_float.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

// Two values side by side. T: int8_t or e4m3.
template <typename T>
struct alignas(2) Pair {
  T at[2];
};

template <typename T>
inline constexpr bool kIsPair = false;
template <typename T>
inline constexpr bool kIsPair<Pair<T>> = true;

// Of a product with operands T: sums of int8 are exact.
template <typename T>
struct SumOf {
  using Type = float;
};
template <>
struct SumOf<Pair<int8_t>> {
  using Type = int;
};

LA_DEVICE void multiply_8bit(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  multiply_s8(d, a, b0, b1);
}
LA_DEVICE void multiply_8bit(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  multiply_e4m3(d, a, b0, b1);
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
