// The host functions that launch the kernels: plain C++, for callers that are not compiled by nvcc. Pointers are device
// memory, matrices are contiguous and row-major, sizes fit in an int. A launch returns the CUDA runtime's error, 0 if
// there is none; `stream` is a cudaStream_t and the emulation ignores it.
//
// The engine's own types stay out: checked kernels (CMakeLists.txt) must share no inline function with other code.
#pragma once

#include <cstddef>
#include <cstdint>

namespace liveavatar::cuda {

enum class ElementType { kF32, kBF16 };
enum class Activation { kNone, kGeluTanh, kSilu };

struct LayerNormCall {
  const float* x;              // [rows, width]
  const float *weight, *bias;  // optional [width]
  const float *scale, *shift;  // optional [groups, width], both or none; rows fall into `groups` equal groups
  int64_t rows, width, groups;
  float eps;
  void* out;  // bf16 [rows, width]
};
int launch_layer_norm(const LayerNormCall& c, void* stream);

struct RopeCall {
  const void* x;  // [rows, heads, pairs, 2]
  ElementType x_type, out_type;
  const float* table;  // [rows, pairs, 2]: cosine and sine
  int64_t rows, heads, pairs;
  void* out;  // as x; may be x if the types are equal
};
int launch_rope(const RopeCall& c, void* stream);

// out = residual + gate * activation(x w^T + bias)
struct GemmCall {
  const void* x;         // bf16 [m, k]
  const void* w;         // bf16 [n, w_stride], w_stride >= k and a multiple of 8
  const float* bias;     // optional [n]
  const float* gate;     // optional [groups, n]
  const void* residual;  // optional [m, n] of out_type; may be out
  void* out;             // [m, n]
  ElementType out_type;
  int64_t m, n, k, w_stride, groups;
  Activation activation;
  bool large;  // blocks of 128 x 128 of out, else 64 x 64
};
int launch_gemm(const GemmCall& c, void* stream);

inline constexpr int kMaxSegments = 4;
struct AttentionCall {
  struct Segment {
    const void *k, *v;  // bf16 [length, heads * head]
    int64_t length;
  };
  const void* q;                                // bf16 [queries, heads * head]
  Segment segments[kMaxSegments];               // with one key at least, together
  int64_t segment_count, queries, heads, head;  // head: its width, a multiple of 8 up to 128
  float scale;
  void* out;  // bf16, as q
};
int launch_attention(const AttentionCall& c, void* stream);

// d [16, 8] = a [16, k] b [8, k]^T; k is a multiple of 32.
int launch_product_s8(const int8_t* a, const int8_t* b, int k, int* d, void* stream);
int launch_product_e4m3(const uint8_t* a, const uint8_t* b, int k, float* d, void* stream);

}  // namespace liveavatar::cuda
