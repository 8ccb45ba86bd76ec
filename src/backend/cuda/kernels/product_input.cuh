// What products take as their matrix x: a matrix as it is, or what a convolution reads for each pixel of out. Each
// has
//   Row row(r)              what threads keep of row r while they go through its columns
//   Column column(k)        what column k < k_end means
//   element(row, column)    the element's address, or null: it is a zero
#pragma once

#include "backend/cuda/kernels/pairs.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

template <typename X>
struct MatrixInput {
  using Element = X;
  using Row = const X*;  // null behind the last
  using Column = int;

  const X* x;  // [rows, k_end]
  int rows, k_end;

  // Whether `count` columns from a multiple of `count` on lie side by side in memory, and aligned.
  bool has_vectors(int count) const { return k_end % count == 0 && is_aligned(x, count); }
  LA_DEVICE Row row(int r) const { return r < rows ? x + int64_t(r) * k_end : nullptr; }
  LA_DEVICE Column column(int k) const { return k; }
  LA_DEVICE const X* element(Row row, Column column) const { return row == nullptr ? nullptr : row + column; }
};

// Rows in 8 bits, T. What pads them to whole vectors is zeros: k_end counts its pairs, too.
template <typename T>
struct QuantisedInput : MatrixInput<Pair<T>> {
  const float* scale;  // [rows]
};

// Row r is pixel r of out, and column ((kernel frame * kernel rows + kernel row) * kernel columns + kernel column) *
// group_channels + c what the convolution multiplies for it in channel c of the block's group.
template <typename X>
struct ConvInput {
  using Element = X;
  struct Row {  // where the kernel's first frame, row and column are
    int frame, y, x;
  };
  struct Column {  // of the kernel
    int frame, y, x, channel;
  };

  const X* x;        // [frames, height, width, channels]
  const X* history;  // optional [history_frames, height, width, channels], the frames before x
  int history_frames, zero_frames;
  int height, width, channels, group_channels;
  int upsample;  // 1: rows and columns are doubled, else 0
  int kernel_rows, kernel_columns, frame_stride, row_stride, column_stride, pad_top, pad_left;
  int out_rows, out_columns;
  int rows, k_end;

  bool has_vectors(int count) const {
    return group_channels % count == 0 && is_aligned(x, count) && is_aligned(history, count);
  }
  LA_DEVICE Row row(int r) const {
    if (r >= rows) return {-(1 << 30), 0, 0};  // zeros, as all before the first frame
    const int line = r / out_columns;
    return {line / out_rows * frame_stride - zero_frames, line % out_rows * row_stride - pad_top,
            r % out_columns * column_stride - pad_left};
  }
  LA_DEVICE Column column(int k) const {
    const int tap = k / group_channels, line = tap / kernel_columns;
    return {line / kernel_rows, line % kernel_rows, tap % kernel_columns,
            k % group_channels + int(blockIdx.z) * group_channels};
  }
  LA_DEVICE const X* element(Row row, Column column) const {
    int frame = row.frame + column.frame;
    const int y_at = row.y + column.y, x_at = row.x + column.x;
    if (frame < 0 || y_at < 0 || x_at < 0 || y_at >= height << upsample || x_at >= width << upsample) return nullptr;
    const X* from = history;
    if (frame >= history_frames) {
      from = x;
      frame -= history_frames;
    }
    const int64_t line = int64_t(frame) * height + (y_at >> upsample);
    return from + (line * width + (x_at >> upsample)) * channels + column.channel;
  }
};

// Columns [k, k + kCount) of some rows; what lies outside becomes zeros. kWide: as many columns lie side by side in
// memory, and aligned.
template <int kWide, int kCount, int kRows, typename In>
LA_DEVICE void read_rows(typename In::Element (&values)[kRows][kCount], const In& x,
                         const typename In::Row (&rows)[kRows], int k) {
  using Values = Vec<typename In::Element, kWide>;
#pragma unroll
  for (int c = 0; c < kCount; c += kWide) {
    const bool exists = k + c < x.k_end;
    const typename In::Column column = x.column(exists ? k + c : 0);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const typename In::Element* at = exists ? x.element(rows[i], column) : nullptr;
      Values read = {};
      if (at != nullptr) read = *reinterpret_cast<const Values*>(at);
#pragma unroll
      for (int e = 0; e < kWide; ++e) values[i][c + e] = read.at[e];
    }
  }
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
