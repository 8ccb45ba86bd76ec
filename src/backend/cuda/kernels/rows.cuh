// Ops on rows: norms and RoPE.
#pragma once

#include "backend/cuda/kernels/epilogue.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

constexpr int kRowThreads = 256;

LA_DEVICE float sum_of_warp(float v) {
  for (int lanes = 16; lanes > 0; lanes /= 2) v += shuffle_xor(v, lanes);
  return v;
}

// The sum over a block of kRowThreads threads, in every thread; always in the same order.
LA_DEVICE float sum_of_block(float v) {
  using Sums = float[kRowThreads / 32];
  LA_SHARED(Sums, of_warps);
  v = sum_of_warp(v);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = v;
  sync_threads();
  float sum = 0;
  for (int w = 0; w < kRowThreads / 32; ++w) sum += of_warps[w];
  sync_threads();  // before of_warps is used again
  return sum;
}

// y * weight + bias, then y * (1 + scale) + shift; both are optional.
struct NormArgs {
  const float* weight;  // [width]
  const float* bias;    // [width]
  const float* scale;   // [rows / rows_per_group, width]
  const float* shift;   // as scale, and there if scale is
  int width, rows_per_group;
  float eps;
};

// Columns [first, first + kWide) of a row, normalised already in y.
template <int kWide>
LA_DEVICE void modulate(float (&y)[kWide], const NormArgs& a, int64_t group, int first) {
  for (int i = 0; i < kWide; ++i) {
    const int c = first + i;
    if (a.weight != nullptr) y[i] *= a.weight[c];
    if (a.bias != nullptr) y[i] += a.bias[c];
    if (a.scale != nullptr) y[i] = y[i] * (1 + a.scale[group * a.width + c]) + a.shift[group * a.width + c];
  }
}

// x, out [rows, width]; one block a row. kWide elements at a time: 4 where the width is a multiple of 4, else 1.
template <int kWide, typename In, typename Out>
__global__ void __launch_bounds__(kRowThreads) layer_norm(const In* x, LA_PARAMETER NormArgs a, Out* out) {
  using Values = Vec<In, kWide>;
  const int64_t row = blockIdx.x;
  const Values* source = reinterpret_cast<const Values*>(x + row * a.width);
  const int chunks = a.width / kWide;
  float sum = 0;
  for (int p = int(threadIdx.x); p < chunks; p += kRowThreads) {
    Values v = source[p];
    for (int i = 0; i < kWide; ++i) sum += to_float(v.at[i]);
  }
  const float mean = sum_of_block(sum) / float(a.width);
  float squares = 0;
  for (int p = int(threadIdx.x); p < chunks; p += kRowThreads) {
    Values v = source[p];
    for (int i = 0; i < kWide; ++i) squares += (to_float(v.at[i]) - mean) * (to_float(v.at[i]) - mean);
  }
  const float factor = inverse_sqrt(sum_of_block(squares) / float(a.width) + a.eps);
  for (int p = int(threadIdx.x); p < chunks; p += kRowThreads) {
    Values v = source[p];
    float y[kWide];
    for (int i = 0; i < kWide; ++i) y[i] = (to_float(v.at[i]) - mean) * factor;
    modulate(y, a, row / a.rows_per_group, p * kWide);
    Vec<Out, kWide> rounded;
    for (int i = 0; i < kWide; ++i) put(&rounded.at[i], y[i]);
    reinterpret_cast<Vec<Out, kWide>*>(out + row * a.width)[p] = rounded;
  }
}

struct RmsNormArgs {
  const float* gain;  // [width]
  int64_t rows;
  int width;
  float eps;              // rms_norm
  Activation activation;  // channel_norm
};

// Which vectors of a row a thread takes: first, first + step, ...
struct Share {
  int first, step;
};

template <int kWide, typename T>
LA_DEVICE float sum_of_squares(const T* row, int width, Share share) {
  float sum = 0;
  for (int p = share.first; p < width / kWide; p += share.step) {
    Vec<T, kWide> v = reinterpret_cast<const Vec<T, kWide>*>(row)[p];
    for (int i = 0; i < kWide; ++i) sum += to_float(v.at[i]) * to_float(v.at[i]);
  }
  return sum;
}

// out = activation(row * factor * gain); out may be row.
template <int kWide, typename In, typename Out>
LA_DEVICE void scale_row(const In* row, const RmsNormArgs& a, float factor, Activation activation, Share share,
                         Out* out) {
  for (int p = share.first; p < a.width / kWide; p += share.step) {
    const Vec<In, kWide> v = reinterpret_cast<const Vec<In, kWide>*>(row)[p];
    Vec<Out, kWide> scaled;
    for (int i = 0; i < kWide; ++i) {
      put(&scaled.at[i], activate(to_float(v.at[i]) * factor * a.gain[p * kWide + i], activation));
    }
    reinterpret_cast<Vec<Out, kWide>*>(out)[p] = scaled;
  }
}

// x, out [rows, width]; one block a row. kWide as in layer_norm.
template <int kWide, typename In, typename Out>
__global__ void __launch_bounds__(kRowThreads) rms_norm(const In* x, LA_PARAMETER RmsNormArgs a, Out* out) {
  const int64_t at = int64_t(blockIdx.x) * a.width;
  const Share share{int(threadIdx.x), kRowThreads};
  const float squares = sum_of_block(sum_of_squares<kWide>(x + at, a.width, share));
  const float factor = inverse_sqrt(squares / float(a.width) + a.eps);
  scale_row<kWide>(x + at, a, factor, Activation::kNone, share, out + at);
}

// x, out [rows, width]; one warp a row, for many short rows.
template <int kWide, typename In, typename Out>
__global__ void __launch_bounds__(kRowThreads) channel_norm(const In* x, LA_PARAMETER RmsNormArgs a, Out* out) {
  const int64_t row = int64_t(blockIdx.x) * (kRowThreads / 32) + threadIdx.x / 32, at = row * a.width;
  if (row >= a.rows) return;
  const Share share{int(threadIdx.x % 32), 32};
  const float length = sqrtf(sum_of_warp(sum_of_squares<kWide>(x + at, a.width, share)));
  const float factor = sqrtf(float(a.width)) / (length < 1e-12f ? 1e-12f : length);  // NaN stays NaN
  scale_row<kWide>(x + at, a, factor, a.activation, share, out + at);
}

struct RopeArgs {
  const float* table;  // [rows, pairs, 2]: cosine and sine
  int64_t rows;
  int heads, pairs;
};

// x, out [rows, heads, pairs, 2]: pair i of every head is rotated by the angle of the row's pair i. out may be x.
// One thread a pair.
template <typename In, typename Out>
__global__ void __launch_bounds__(kRowThreads) rope(const In* x, LA_PARAMETER RopeArgs r, Out* out) {
  const int64_t at = int64_t(blockIdx.x) * kRowThreads + threadIdx.x, width = int64_t(r.heads) * r.pairs;
  if (at >= r.rows * width) return;
  const int64_t row = at / width;
  const int pair = int(at % r.pairs);
  Vec<In, 2> v = reinterpret_cast<const Vec<In, 2>*>(x)[at];
  Vec<float, 2> angle = reinterpret_cast<const Vec<float, 2>*>(r.table)[row * r.pairs + pair];
  const float a = to_float(v.at[0]), b = to_float(v.at[1]);
  Vec<Out, 2> y;
  put(&y.at[0], a * angle.at[0] - b * angle.at[1]);
  put(&y.at[1], a * angle.at[1] + b * angle.at[0]);
  reinterpret_cast<Vec<Out, 2>*>(out)[at] = y;
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
