// The host functions that launch the kernels: plain C++, for callers that are not compiled by nvcc. Pointers are device
// memory, tensors are contiguous and row-major, sizes fit in an int and element counts in an int64_t. A launch returns
// the CUDA runtime's error, 0 if there is none; `stream` is a cudaStream_t or, for the emulation, an emulate::Stream.
//
// The same sources are compiled twice: by nvcc for cards, and by g++ over the device emulation. Each gives a table.
//
// The engine's own types stay out: checked kernels (kernels/CMakeLists.txt) must share no inline function with other
// code.
#pragma once

#include <cstddef>
#include <cstdint>

namespace liveavatar::cuda {

// kQ4: blocks of 32 4-bit values; only weights.
enum class ElementType { kF32, kBF16, kI8, kE4M3, kQ4 };
enum class Activation { kNone, kGeluTanh, kGeluErf, kSilu, kRelu };

// A tensor in f32 or bf16, unless said otherwise. Null data: an optional operand that is absent.
struct Input {
  const void* data = nullptr;
  ElementType type = ElementType::kF32;
};
struct Output {
  void* data = nullptr;
  ElementType type = ElementType::kF32;
};

// ---- Rows (rows.cu) ----

struct LayerNormCall {
  Input x;                     // [rows, width]
  const float *weight, *bias;  // optional [width]
  const float *scale, *shift;  // optional [groups, width], both or none; rows fall into `groups` equal groups
  int64_t rows, width, groups;
  float eps;
  Output out;  // [rows, width]; may be x if the types are equal
};

// root mean square: out = x * rsqrt(mean(x^2) + eps) * gain
// channels:         out = activation(x / max(|x|, 1e-12) * sqrt(width) * gain)
struct RmsNormCall {
  Input x;            // [rows, width]
  const float* gain;  // [width]
  int64_t rows, width;
  bool channels;
  float eps;              // root mean square
  Activation activation;  // channels
  Output out;             // as x; may be x if the types are equal
};

struct RopeCall {
  Input x;             // [rows, heads, pairs, 2]
  const float* table;  // [rows, pairs, 2]: cosine and sine
  int64_t rows, heads, pairs;
  Output out;  // as x; may be x if the types are equal
};

// A scale for each row and head, as quantise_8bit in core/quantise.h: the same bits.
struct QuantiseCall {
  Input x;  // [rows, heads * head]
  int64_t rows, heads, head;
  Output out;           // kI8 or kE4M3 [rows, heads, head + padding]
  float* scale;         // [rows, heads]
  int64_t padding = 0;  // zeros
};
struct DequantiseCall {
  Input x;             // kI8 or kE4M3 [rows, heads * head]
  const float* scale;  // [rows, heads]
  int64_t rows, heads, head;
  Output out;  // as x
};

// ---- Elements (elements.cu) ----

// out = x + factor * y, or x * y; y is repeated: element i meets y[i % y_elements].
struct BinaryCall {
  Input x, y;
  int64_t elements, y_elements;
  bool multiply;
  float factor;
  Output out;  // may be x or y if the types are equal
};
// out = activation(x); kNone copies with conversion.
struct ActivateCall {
  Input x;
  int64_t elements;
  Activation activation;
  Output out;  // may be x if the types are equal
};
struct FillCall {
  Output out;
  int64_t elements;
  float value;
};
struct ClampCall {
  const float* x;
  int64_t elements;
  float low, high;
  float* out;  // NaN stays NaN; may be x
};
// x in [-1, 1], clamped, rounded half up -> 0..255; NaN is 0.
struct Rgb8Call {
  const float* x;
  int64_t elements;
  uint8_t* out;
};
// Rows of `row_bytes` bytes; strides may be smaller or larger than a row.
struct CopyRowsCall {
  const void* from;
  void* to;
  int64_t from_stride_bytes, to_stride_bytes, rows, row_bytes;
};
// out [rows, width]: each row is one value of x [rows].
struct RepeatColumnsCall {
  const float* x;
  int64_t rows, width;
  float* out;
};
// line [heads, 2 * tokens - 1] -> out [heads, tokens, tokens]: out[h, q, k] = line[h, tokens - 1 + k - q].
struct RelativeBiasCall {
  const float* line;
  int64_t heads, tokens;
  float* out;
};

// ---- Layouts (layouts.cu) ----

// Video [channels, frames, rows, columns] <-> tokens [(frames/pf) * (rows/ph) * (columns/pw), channels * pf * ph * pw]
// in frame, row, column order. A token's features are in (channel, frame, row, column) order, or in (frame, row,
// column, channel) order.
struct PatchCall {
  Input from;
  int64_t channels, frames, rows, columns;  // of the video; patches divide them, or what is left over is not read
  int64_t pf, ph, pw;
  bool to_tokens;  // patchify, channel first; else unpatchify, channel last
  Output to;
};
// [channels, pixels] <-> [pixels, channels], with x * scale + shift of the channel (each optional [channels]).
struct TransposeCall {
  Input x;
  const float *scale, *shift;
  int64_t channels, pixels;
  bool channels_last;  // of out
  Output out;
};

// ---- Products ----

// A matrix [n, k] as backend/cuda/weights.h packs it. 64 rows are a group: first their values, `row_bytes` a row (a
// multiple of 16; k is padded with zeros), then their scales: kI8 and kE4M3 a float a row, kQ4 a bf16 for each block of
// 32 of k. A last group with fewer rows has its scales right behind these rows.
inline constexpr int64_t kGroupRows = 64;
struct PackedMatrix {
  const void* data;
  ElementType type;
  int64_t n, k, row_bytes, group_bytes;  // group_bytes: of a whole group
};

// out = residual + gate * activation(product + bias)
struct EpilogueCall {
  const float* bias;  // optional [n]
  const float* gate;  // optional [groups, n]; rows fall into `groups` equal groups
  int64_t groups;     // at least 1
  Input residual;     // optional [m, n]; may be out if the types are equal
  Activation activation;
};

// linear_f32: f32 arithmetic, for every type (product_f32.cu), the truth of all products on the device. linear_bf16:
// tensor cores, for w in any type but f32 (gemm.cu).
struct LinearCall {
  Input x;  // [m, k]
  PackedMatrix w;
  int64_t m;
  EpilogueCall epilogue;
  Output out;          // [m, n]
  bool large = false;  // linear_bf16: larger blocks, for large m and n; the bits are the same
};
// What follows a product in f32 that a library computed.
struct FinishProductCall {
  const float* product;  // [m, n]
  int64_t m, n;
  EpilogueCall epilogue;  // residual: of the type of out
  Output out;             // [m, n]
};
// Both operands in 8 bits, kI8 or kE4M3 (sm_89 and later), multiplied as they are. Sums of kI8 are exact up to k =
// kMostExactK. All rows of out, or some of them, with the same bits.
inline constexpr int64_t kMostExactK = 0x7fffffff / (127 * 127);
struct Linear8bitCall {
  const void* x;         // [rows, k] of the type of w, padded with zeros to w.row_bytes; 16-byte aligned
  const float* x_scale;  // [rows]
  PackedMatrix w;
  int64_t m, first_row, rows;  // x is rows [first_row, first_row + rows) of m
  EpilogueCall epilogue;       // of all m rows
  Output out;                  // [m, n]
  bool large = false;          // as for linear_bf16
};
int64_t constexpr kMaxGroups = 65535;  // of a convolution
struct ConvCall {
  Input x;                 // [frames, rows, columns, channels]
  Input history;           // optional [history_frames, rows, columns, channels], the frames before x
  int64_t history_frames;  // 0 without
  int64_t zero_frames;     // in front of history
  int64_t frames, rows, columns, channels;
  int64_t kernel[3], stride[3];  // frames, rows, columns
  int64_t pad_top, pad_left;
  bool upsample2x;  // rows and columns are doubled (nearest) before the convolution
  int64_t out_frames, out_rows, out_columns;
  int64_t groups;         // of channels: w.n and `channels` are divided by it
  PackedMatrix w;         // [out channels, kernel frames * rows * columns * channels / groups], kF32 or kBF16
  EpilogueCall epilogue;  // no gate
  Output out;             // [out_frames, out_rows, out_columns, w.n]
  bool large = false;     // conv_bf16: as for a linear layer
};

inline constexpr int kMaxSegments = 4;
struct AttentionCall {
  struct Segment {
    Input k, v;                      // [length, heads * head]; also kI8 or kE4M3 with scales
    const float *k_scale, *v_scale;  // [length, heads]
    int64_t length;
  };
  Input q;                         // [queries, heads * head]
  Segment segments[kMaxSegments];  // with one key at least, together
  int64_t segment_count, queries, heads, head;
  const float* bias;  // optional [heads, queries, keys of all segments], added to scale * q k^T
  float scale;
  Output out;  // as q
};

// d [16, 8] = a [16, k] b [8, k]^T; k is a multiple of 32. e4m3: sm_89 and later.
struct Product8bitCall {
  const void *a, *b;
  ElementType type;  // kI8: d is int; kE4M3: d is float
  int k;
  void* d;
};

struct Kernels {
  int (*layer_norm)(const LayerNormCall& c, void* stream);
  int (*rms_norm)(const RmsNormCall& c, void* stream);
  int (*rope)(const RopeCall& c, void* stream);
  int (*quantise)(const QuantiseCall& c, void* stream);
  int (*dequantise)(const DequantiseCall& c, void* stream);
  int (*binary)(const BinaryCall& c, void* stream);
  int (*activate)(const ActivateCall& c, void* stream);
  int (*fill)(const FillCall& c, void* stream);
  int (*clamp)(const ClampCall& c, void* stream);
  int (*rgb8)(const Rgb8Call& c, void* stream);
  int (*copy_rows)(const CopyRowsCall& c, void* stream);
  int (*repeat_columns)(const RepeatColumnsCall& c, void* stream);
  int (*relative_bias)(const RelativeBiasCall& c, void* stream);
  int (*patch)(const PatchCall& c, void* stream);
  int (*transpose)(const TransposeCall& c, void* stream);
  // In f32 arithmetic, any types; head up to 512.
  int (*linear_f32)(const LinearCall& c, void* stream);
  int (*conv_f32)(const ConvCall& c, void* stream);
  int (*attention_f32)(const AttentionCall& c, void* stream);
  // On tensor cores. linear_bf16: w is not f32. conv_bf16: w is bf16. attention_bf16: q and out are bf16, keys and
  // values bf16 or 8-bit, no bias, head a multiple of 8 up to 128.
  int (*linear_bf16)(const LinearCall& c, void* stream);
  int (*linear_8bit)(const Linear8bitCall& c, void* stream);
  int (*finish_product)(const FinishProductCall& c, void* stream);
  int (*conv_bf16)(const ConvCall& c, void* stream);
  int (*attention_bf16)(const AttentionCall& c, void* stream);
};

namespace on_card {  // compiled by nvcc; defined where the program is built with a CUDA toolkit
const Kernels& kernels();
}
namespace emulated {
const Kernels& kernels();
}

}  // namespace liveavatar::cuda
