// Operands that more than one op shares. Every tensor is contiguous; f32 or bf16 unless said otherwise.
#pragma once

#include <array>
#include <vector>

#include "core/tensor.h"

namespace liveavatar {

enum class Activation { kNone, kGeluTanh, kGeluErf, kSilu, kRelu };

// What follows a product: out = residual + gate * activation(product + bias).
struct Epilogue {
  Activation activation = Activation::kNone;
  Tensor gate;      // optional f32 [G, N]; rows fall into G equal groups in order (G divides the row count)
  Tensor residual;  // optional, shape of out; may be the same memory as out
};

// A matrix in the backend's packed form (Backend::pack_linear). Does not own the memory.
struct LinearWeight {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // kF32 or kBF16; kI8, kF8E4M3 (a scale for each output) or kQ4 (a scale for 32 inputs)
  int64_t n = 0, k = 0;       // output and input width
  Tensor bias;                // optional f32 [n]
};

// A convolution kernel in packed form (Backend::pack_conv).
struct ConvWeight {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t out_channels = 0, in_channels = 0;  // of all groups
  std::array<int64_t, 3> kernel{1, 1, 1};     // frames, rows, columns
  int64_t groups = 1;
  Tensor bias;  // optional f32 [out_channels]
};

// Frames, rows and columns of a convolution. `history` is in front of the first frame, and zeros are in front of that.
struct ConvGeometry {
  std::array<int64_t, 3> stride{1, 1, 1};
  int64_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;  // zeros
  int64_t zero_frames = 0;                                           // zero frames in front of history
  bool upsample2x = false;  // doubles rows and columns (nearest) before the convolution
  Tensor history;           // causal cache: optional [P, H, W, C] as x, the frames before x[0]
};

// A segment of keys and values, [L, heads * d]. Attention concatenates several segments. Each of the two may be kI8 or
// kF8E4M3 with a scale for each row and head: f32 [L, heads].
struct KeyValues {
  Tensor k, v;
  Tensor k_scale, v_scale;

  // Rows [first, first + count).
  KeyValues slice(int64_t first, int64_t count) const {
    auto scales = [&](const Tensor& t) { return t.empty() ? Tensor() : t.slice(first, count); };
    return {k.slice(first, count), v.slice(first, count), scales(k_scale), scales(v_scale)};
  }
};

struct AttentionSpec {
  int64_t heads = 1;
  float scale = 1.0f;
  Tensor bias;           // optional f32 [heads, Lq, Lk of all segments], added to scale * q.k
  bool in_8bit = false;  // bf16 operands may be quantised to 8 bits, if Backend::int8_products()
};

// The largest ops that a model will call: the sizes for Backend::reserve.
struct AttentionSize {
  int64_t heads = 1, width = 0, keys = 0;  // width: heads * d; keys: of all segments
  DType dtype = DType::kF32;               // of queries and keys
};
struct ConvSize {
  int64_t in_channels = 0, out_channels = 0;  // of a group
  std::array<int64_t, 3> kernel{1, 1, 1};     // frames, rows, columns
  int64_t column_stride = 1, columns = 0;     // columns: of the output
};
// A linear layer that takes much of the time, with its bias.
struct LinearSize {
  int64_t rows = 0, n = 0, k = 0;
  DType x = DType::kF32, weights = DType::kF32, out = DType::kF32;
  Activation activation = Activation::kNone;
  bool gate = false, residual = false;  // gate: of one group; residual: of the type of out
};
// A convolution over video frames that takes much of the time, with its bias: of stride 1, over the kernel[0] - 1
// frames before x as history, with zeros around rows and columns.
struct VideoConvSize {
  int64_t frames = 0, rows = 0, columns = 0;  // of out
  int64_t in_channels = 0, out_channels = 0;
  std::array<int64_t, 3> kernel{1, 1, 1};  // frames, rows, columns
  DType x = DType::kF32, weights = DType::kF32, out = DType::kF32;
  bool upsample2x = false, residual = false;  // residual: in place
};
struct LargestOps {
  AttentionSize attention;
  int64_t linear_elements = 0;  // rows * k of a linear layer's input; larger ones work but are slower
  int64_t linear_k = 0;         // the widest input row of a linear layer, or of a convolution of single pixels
  std::vector<ConvSize> convs;  // the others
  // Those for which a backend may find out how it computes them best (BackendOptions::tune).
  std::vector<LinearSize> hot_linears;
  std::vector<VideoConvSize> hot_convs;
};

// Rows of equally many elements in a tensor: the first begins at element `first`, each next one `stride` elements
// later.
struct StridedRows {
  Tensor tensor;
  int64_t first = 0, stride = 0;
};

// y -> y * (1 + scale) + shift; f32 [G, D], rows in G equal groups.
struct Modulation {
  Tensor shift, scale;
};

}  // namespace liveavatar
