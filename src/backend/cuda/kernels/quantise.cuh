// Values to 8 bits with a scale for each row and head, and back. The arithmetic is that of core/quantise.h, operation
// for operation, with no product whose sum nvcc could fuse: the bits are the same on host and device.
#pragma once

#include "backend/cuda/kernels/eight_bit_float.cuh"
#include "backend/cuda/kernels/indices.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

LA_DEVICE float max_of_warp(float v) {
  for (int lanes = 16; lanes > 0; lanes /= 2) v = fmaxf(v, shuffle_xor(v, lanes));
  return v;
}

constexpr int kQuantiseWarps = 8;  // of a block, each a head of a row

struct QuantiseArgs {
  int64_t heads;  // of all rows
  int head;       // elements of one
};

// x [heads, head] -> out [heads, padded_head], scale [heads]; what pads a head is zeros. Format: Int8 or E4m3. kWide
// elements at a time, which divide head and padded_head.
template <typename Format, int kWide, typename T>
__global__ void __launch_bounds__(kQuantiseWarps * 32)
    quantise(const T* x, LA_PARAMETER QuantiseArgs a, int padded_head, uint8_t* out, float* scale) {
  const int64_t at = int64_t(blockIdx.x) * kQuantiseWarps + threadIdx.x / 32;
  if (at >= a.heads) return;
  const int lane = int(threadIdx.x % 32), chunks = a.head / kWide;
  const auto* source = reinterpret_cast<const Vec<T, kWide>*>(x + at * a.head);
  auto* target = reinterpret_cast<Vec<uint8_t, kWide>*>(out + at * padded_head);
  float largest = 0;
  for (int p = lane; p < chunks; p += 32) {
    Vec<T, kWide> v = source[p];
    for (int i = 0; i < kWide; ++i) largest = fmaxf(largest, fabsf(to_float(v.at[i])));
  }
  largest = max_of_warp(largest);
  // Values whose scale is too small to invert become zeros.
  const float step = largest < 1e-30f ? 0.0f : largest / Format::kTop, inverse = step == 0 ? 0.0f : 1.0f / step;
  for (int p = lane; p < padded_head / kWide; p += 32) {
    Vec<T, kWide> v = {};
    if (p < chunks) v = source[p];
    Vec<uint8_t, kWide> bytes;
    for (int i = 0; i < kWide; ++i) bytes.at[i] = Format::encode(to_float(v.at[i]) * inverse);
    target[p] = bytes;
  }
  if (lane == 0) scale[at] = step;
}

// x [heads, head], scale [heads] -> out [heads, head]; a thread for kWide elements, which divide head.
template <typename Format, int kWide, typename T>
__global__ void __launch_bounds__(kElementThreads)
    dequantise(const uint8_t* x, const float* scale, LA_PARAMETER QuantiseArgs a, T* out) {
  const int64_t at = thread_of_grid();
  if (at * kWide >= a.heads * a.head) return;
  const float step = scale[divide(at * kWide, a.head).quotient];
  Vec<uint8_t, kWide> bytes = reinterpret_cast<const Vec<uint8_t, kWide>*>(x)[at];
  Vec<T, kWide> y;
  for (int i = 0; i < kWide; ++i) put(&y.at[i], step * Format::decode(bytes.at[i]));
  reinterpret_cast<Vec<T, kWide>*>(out)[at] = y;
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
