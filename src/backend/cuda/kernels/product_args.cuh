// The arguments of products, from the calls of kernels.h, and what follows a sum.
#pragma once

#include "backend/cuda/kernels/epilogue.cuh"
#include "backend/cuda/kernels/product_input.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

template <typename In>
struct ProductArgs {
  In x;            // MatrixInput, ConvInput or QuantisedInput: [m, k]
  PackedMatrix w;  // [groups of channels * group_columns, k]
  EpilogueCall epilogue;
  Output out;  // [m, w.n]
  int rows_per_gate, group_columns;
  int first_row = 0;  // of out, for which x has its first
};

template <typename X>
ProductArgs<MatrixInput<X>> linear_args(const LinearCall& c) {
  const MatrixInput<X> x{static_cast<const X*>(c.x.data), int(c.m), int(c.w.k)};
  return {x, c.w, c.epilogue, c.out, int(c.m / c.epilogue.groups), int(c.w.n)};
}

// Both operands as pairs.
template <typename T>
ProductArgs<QuantisedInput<T>> linear_8bit_args(const Linear8bitCall& c) {
  const int pairs = int(c.w.row_bytes / 2);
  const QuantisedInput<T> x{{static_cast<const Pair<T>*>(c.x), int(c.rows), pairs}, c.x_scale};
  PackedMatrix w = c.w;
  w.k = pairs;
  return {x, w, c.epilogue, c.out, int(c.m / c.epilogue.groups), int(w.n), int(c.first_row)};
}

template <typename X>
ProductArgs<ConvInput<X>> conv_args(const ConvCall& c) {
  ConvInput<X> in{};
  in.x = static_cast<const X*>(c.x.data);
  in.history = static_cast<const X*>(c.history.data);
  in.history_frames = int(c.history_frames);
  in.zero_frames = int(c.zero_frames);
  in.height = int(c.rows);
  in.width = int(c.columns);
  in.channels = int(c.channels);
  in.group_channels = int(c.channels / c.groups);
  in.upsample = c.upsample2x ? 1 : 0;
  in.kernel_rows = int(c.kernel[1]);
  in.kernel_columns = int(c.kernel[2]);
  in.frame_stride = int(c.stride[0]);
  in.row_stride = int(c.stride[1]);
  in.column_stride = int(c.stride[2]);
  in.pad_top = int(c.pad_top);
  in.pad_left = int(c.pad_left);
  in.out_rows = int(c.out_rows);
  in.out_columns = int(c.out_columns);
  in.rows = int(c.out_frames * c.out_rows * c.out_columns);
  in.k_end = int(c.w.k);
  return {in, c.w, c.epilogue, c.out, in.rows, int(c.w.n / c.groups)};
}

// out[row, column] of a product, whose sum is `y`.
template <typename In>
LA_DEVICE void store_product(const ProductArgs<In>& p, int row, int column, float y) {
  const EpilogueCall& e = p.epilogue;
  const int64_t at = row * p.w.n + column;
  if (e.bias != nullptr) y += e.bias[column];
  y = activate(y, e.activation);
  if (e.gate != nullptr) y *= e.gate[row / p.rows_per_gate * p.w.n + column];
  if (e.residual.data != nullptr) y += load(e.residual, at);
  store(p.out, at, y);
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
