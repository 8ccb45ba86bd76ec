// Ops on single elements, and copies that repeat. All are bound by memory: a thread takes a vector of kWide elements, 4
// where the launch finds sizes and addresses that allow it.
#pragma once

#include "backend/cuda/kernels/epilogue.cuh"
#include "backend/cuda/kernels/indices.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

LA_DEVICE void put(uint8_t* at, float x) { *at = uint8_t(x); }

// x [elements], y [y_elements] -> out [elements]; out may be x or y.
struct BinaryArgs {
  int64_t elements, y_elements;
  bool multiply;
  float factor;
};
template <int kWide, typename X, typename Y, typename Out>
__global__ void __launch_bounds__(kElementThreads) binary(const X* x, const Y* y, LA_PARAMETER BinaryArgs a, Out* out) {
  const int64_t at = thread_of_grid();
  if (at * kWide >= a.elements) return;
  Vec<X, kWide> left = reinterpret_cast<const Vec<X, kWide>*>(x)[at];
  Vec<Y, kWide> right = reinterpret_cast<const Vec<Y, kWide>*>(y)[divide(at, a.y_elements / kWide).remainder];
  Vec<Out, kWide> result;
  for (int i = 0; i < kWide; ++i) {
    const float p = to_float(left.at[i]), q = to_float(right.at[i]);
    put(&result.at[i], a.multiply ? p * q : p + a.factor * q);
  }
  reinterpret_cast<Vec<Out, kWide>*>(out)[at] = result;
}

// What map applies to an element.
struct Activate {
  Activation activation;
  LA_DEVICE float operator()(float x) const { return activate(x, activation); }
};
struct Clamp {
  float low, high;
  LA_DEVICE float operator()(float x) const { return x < low ? low : (x > high ? high : x); }  // NaN stays NaN
};
struct Rgb8 {
  LA_DEVICE float operator()(float x) const {
    if (x != x) return 0.0f;
    return (Clamp{-1.0f, 1.0f}(x) + 1.0f) * 127.5f + 0.5f;  // put() drops the fraction
  }
};

// out[i] = f(x[i]); x, out [elements], out may be x.
template <int kWide, typename In, typename Out, typename F>
__global__ void __launch_bounds__(kElementThreads) map(const In* x, int64_t elements, LA_PARAMETER F f, Out* out) {
  const int64_t at = thread_of_grid();
  if (at * kWide >= elements) return;
  Vec<In, kWide> v = reinterpret_cast<const Vec<In, kWide>*>(x)[at];
  Vec<Out, kWide> y;
  for (int i = 0; i < kWide; ++i) put(&y.at[i], f(to_float(v.at[i])));
  reinterpret_cast<Vec<Out, kWide>*>(out)[at] = y;
}

// out = residual + gate * activation(product + bias); product, residual, out [elements / n, n]. kWide divides n.
struct FinishArgs {
  int64_t elements, n, rows_per_gate;
  const float *bias, *gate;  // optional [n], [groups, n]
  const void* residual;      // optional, of the type of out; may be out
  Activation activation;
};
template <int kWide, typename Out>
__global__ void __launch_bounds__(kElementThreads)
    finish_product(const float* product, LA_PARAMETER FinishArgs a, Out* out) {
  const int64_t at = thread_of_grid();
  if (at * kWide >= a.elements) return;
  const Division row = divide(at * kWide, a.n);
  const float* bias = a.bias == nullptr ? nullptr : a.bias + row.remainder;
  const float* gate =
      a.gate == nullptr ? nullptr : a.gate + divide(row.quotient, a.rows_per_gate).quotient * a.n + row.remainder;
  Vec<float, kWide> y = reinterpret_cast<const Vec<float, kWide>*>(product)[at];
  Vec<Out, kWide> residual{}, result;
  if (a.residual != nullptr) residual = static_cast<const Vec<Out, kWide>*>(a.residual)[at];
  for (int i = 0; i < kWide; ++i) {
    if (bias != nullptr) y.at[i] += bias[i];
    y.at[i] = activate(y.at[i], a.activation);
    if (gate != nullptr) y.at[i] *= gate[i];
    put(&result.at[i], a.residual == nullptr ? y.at[i] : y.at[i] + to_float(residual.at[i]));
  }
  reinterpret_cast<Vec<Out, kWide>*>(out)[at] = result;
}

// out [elements]
template <int kWide, typename T>
__global__ void __launch_bounds__(kElementThreads) fill(int64_t elements, float value, T* out) {
  const int64_t at = thread_of_grid();
  if (at * kWide >= elements) return;
  Vec<T, kWide> y;
  for (int i = 0; i < kWide; ++i) put(&y.at[i], value);
  reinterpret_cast<Vec<T, kWide>*>(out)[at] = y;
}

// Sizes are in units: rows of `width` units, `from_stride` and `to_stride` apart. One thread a unit.
struct CopyArgs {
  int64_t from_stride, to_stride, rows, width;
};
template <typename Unit>
__global__ void __launch_bounds__(kElementThreads) copy_rows(const Unit* from, LA_PARAMETER CopyArgs a, Unit* to) {
  const int64_t at = thread_of_grid();
  if (at >= a.rows * a.width) return;
  const Division row = divide(at, a.width);
  to[row.quotient * a.to_stride + row.remainder] = from[row.quotient * a.from_stride + row.remainder];
}

// x [rows] -> out [rows, width]; kWide divides width.
template <int kWide>
__global__ void __launch_bounds__(kElementThreads)
    repeat_columns(const float* x, int64_t rows, int64_t width, float* out) {
  const int64_t at = thread_of_grid();
  if (at * kWide >= rows * width) return;
  const float value = x[divide(at * kWide, width).quotient];
  Vec<float, kWide> y;
  for (int i = 0; i < kWide; ++i) y.at[i] = value;
  reinterpret_cast<Vec<float, kWide>*>(out)[at] = y;
}

// line [heads, 2 * tokens - 1] -> out [heads, tokens, tokens]; kWide divides tokens. Only stores are vectors: what a
// row reads begins anywhere.
template <int kWide>
__global__ void __launch_bounds__(kElementThreads)
    relative_bias(const float* line, int64_t heads, int64_t tokens, float* out) {
  const int64_t at = thread_of_grid();
  if (at * kWide >= heads * tokens * tokens) return;
  const Division key = divide(at * kWide, tokens), query = divide(key.quotient, tokens);
  const float* from = line + query.quotient * (2 * tokens - 1) + tokens - 1 - query.remainder + key.remainder;
  Vec<float, kWide> y;
  for (int i = 0; i < kWide; ++i) y.at[i] = from[i];
  reinterpret_cast<Vec<float, kWide>*>(out)[at] = y;
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
