// The kernels of one instruction set: plain functions over plain memory. Each kernels_<isa>.cc fills a table. No other
// file is compiled with that set's flags, so that no shared inline function can have instructions that an older CPU
// does not support.
#pragma once

#include <cstdint>

namespace liveavatar::cpu {

// As in backend/types.h. Repeated, so that kernel files include nothing else.
enum class Activation : int { kNone, kGeluTanh, kGeluErf, kSilu, kRelu };
enum class Type : int { kF32, kBF16 };

constexpr int kRows = 6;          // rows of a micro-kernel's tile (MR); the columns (NR) are Kernels::columns
constexpr int kMostColumns = 64;  // the largest NR of all instruction sets

// The micro-kernel: acc [rows][columns] f32 = sum over taps and k of a[tap * rows + row][k] * b. The order is always
// taps, then k, ascending: a row's bits do not depend on the rows beside it.
struct TileArgs {
  const void* const* a = nullptr;  // row pointers, tap-major
  int rows = 0;                    // 1..kRows
  int64_t taps = 1, k = 0;         // k per tap
  const void* b = nullptr;         // packed micro-panel, see pack.h
  float* acc = nullptr;
  int columns = kMostColumns;  // columns that are needed; the others may keep their old values
  bool accumulate = false;     // add to the values in acc
  int stride = 0;              // elements between rows of acc; 0: Kernels::columns
};

// out = residual + gate * activation(acc * scale + bias) for one tile.
struct StoreArgs {
  const float* acc = nullptr;
  int rows = 0, columns = 0;     // rows: at most kMatrixRows
  const float* scale = nullptr;  // a factor for each column, or null
  const float* bias = nullptr;   // at the tile's first column, or null
  Activation activation = Activation::kNone;
  const float* const* gate = nullptr;  // a pointer for each row, or null
  const void* residual = nullptr;      // at the tile's first element
  Type residual_type = Type::kF32;
  void* out = nullptr;
  Type out_type = Type::kF32;
  int64_t stride = 0;  // elements between rows of out and residual
};

// A convolution with a small number of output channels: lanes are pixels. Items have 32 bits: f32, or bf16 pairs of
// channels. The order of sums is lines, columns, then items, as taps and k in the micro-kernel.
struct SmallOutputArgs {
  const float* const* lines = nullptr;  // staged input lines, [items][pitch] each
  int64_t first = 0;                    // first pixel in these lines
  int64_t line_count = 0, columns = 0;  // positions of the kernel: lines, and columns in each
  int64_t items = 0, pitch = 0;         // of an input pixel; between items
  const float* weights = nullptr;       // [line][column][items][channels]
  int channels = 0;                     // output channels, padded: kSmallOutputFew, or a multiple of half a vector
  int n = 0, pixels = 0;                // output channels and pixels that are needed
  float* acc = nullptr;                 // [pixels, rounded up to vectors][n], and space for one vector after it
};
// Accumulators in registers: half a vector of channels times three vectors of pixels, or four channels times as many
// pixels as these registers allow.
constexpr int kSmallOutputVectors = 3, kSmallOutputFew = 4;

// The int8 micro-kernel: acc [rows][columns] of a[row][k] * b over some k, exact.
struct Int8TileArgs {
  const unsigned char* a = nullptr;     // rows of uint8 values with zero point 128, `stride` bytes apart
  int64_t stride = 0, groups_of_4 = 0;  // groups_of_4: k / 4
  int rows = 0, columns = 0;            // rows: 1..kRows; columns: ignored, all are computed
  const void* b = nullptr;              // [groups_of_4][columns][4]
  int* acc = nullptr;
  int64_t acc_stride = 0;   // elements between rows of acc
  bool accumulate = false;  // add to the values in acc
};

// The micro-kernel of a matrix unit: acc [rows][columns] of a block of rows times a micro-panel, f32 for bf16 pairs,
// int32 for int8 values. The order of sums is taps, then items, in two passes: first whole chunks of kChunkItems, then
// the remainder.
struct MatrixArgs {
  const void* const* a = nullptr;          // the first row, per tap
  int64_t row_bytes = 0, chunk_bytes = 0;  // between rows, and between the chunks of a row
  int rows = 0, columns = 0;               // columns that are needed; the others may keep their old values
  int64_t taps = 1, items = 0;             // items of 32 bits per tap: bf16 pairs, or groups of four int8 values
  const void* b = nullptr;                 // [taps][items][columns of a panel]
  void* acc = nullptr;                     // [rows][columns of a panel]
  int64_t stride = 0;                      // elements between rows of acc; 0: the columns of a panel
  bool accumulate = false;                 // add to the values in acc
  const void* prefetch[2] = {};            // memory that the next calls read, to prefetch into L2
  int64_t prefetch_bytes[2] = {};
};
constexpr int64_t kChunkItems = 16, kChunkBytes = 64;
constexpr int kMatrixRows = 32;  // rows that share the loaded registers of b

// A row of softmax weights in 8 bits: quantised = 255 * 2^(score - largest), with score = (acc - offset) * scale of the
// key * factor + bias, in base 2. Values after n, up to a multiple of four, are zero.
struct SoftmaxWeightsArgs {
  int* acc = nullptr;  // integer scores; overwritten
  int64_t n = 0;
  const int* offsets = nullptr;
  const float* scales = nullptr;
  float factor = 1;
  const float* bias = nullptr;  // or null; times log2(e)
  unsigned char* quantised = nullptr;
  float largest = 0;  // out; total: out, the sum of the quantised values
  float total = 0;
};

struct Row {
  const void* data = nullptr;
  Type type = Type::kF32;
};

struct Kernels {
  const char* name = "";
  int columns = 16;              // of a micro-kernel's tile (NR)
  int lanes = 8;                 // of a vector
  bool multiplies_bf16 = false;  // the CPU has a dot product of bf16 pairs: tile[1][1]
  // [a type][b type]
  void (*tile[2][2])(const TileArgs&) = {};
  // Matrix units: bf16, and uint8 with zero point 128 times int8. Null if the CPU has none.
  void (*matrix)(const MatrixArgs&) = nullptr;
  void (*matrix_i8)(const MatrixArgs&) = nullptr;
  void (*store)(const StoreArgs&) = nullptr;
  void (*small_output[2])(const SmallOutputArgs&) = {};  // [item type]
  // Quantised values of k inputs (pack.h) as a bf16 panel, exact.
  void (*unpack_i8)(const void* quantised, int64_t k, void* panel) = nullptr;
  void (*unpack_f8)(const void* quantised, int64_t k, void* panel) = nullptr;
  void (*unpack_q4)(const void* quantised, int64_t k, void* panel) = nullptr;
  // Products of 8-bit values, int8.inl. Null if the CPU does not support them. int8_tile: only without a matrix unit.
  void (*quantise_row)(Row x, int64_t n, unsigned char* quantised, float* scale) = nullptr;
  // The other operand of quantise_row: x - less as int8 values; offset = 128 * their sum.
  void (*quantise_key)(Row x, const float* less, int64_t n, signed char* quantised, float* scale,
                       int* offset) = nullptr;
  void (*groups_i8)(const void* quantised, int64_t k, void* groups_of_4, int* offsets) = nullptr;
  void (*int8_tile)(const Int8TileArgs&) = nullptr;
  void (*scale_i8)(int* acc, int rows, const int* offsets, const float* scales) = nullptr;
  // Softmax weights and values of attention in 8 bits.
  void (*softmax_weights_i8)(SoftmaxWeightsArgs&) = nullptr;
  // largest[i] = max(largest[i], |x[i]|)
  void (*largest_of)(Row x, int64_t n, float* largest) = nullptr;
  // Four rows of n bf16, null for zeros, times a factor for each column: groups of four of a panel, zeros after n.
  void (*quantise_values)(const void* const* rows, int64_t n, const float* factors, void* groups_of_4) = nullptr;
  // out = out * shrink + acc * scales * factor, with a scale for each column.
  void (*add_i8)(const int* acc, int64_t n, const float* scales, float factor, float shrink, float* out) = nullptr;
  // A row of quantised values times its scale.
  void (*decode_i8)(const void* quantised, int64_t n, float scale, void* out, Type out_type) = nullptr;
  void (*decode_f8)(const void* quantised, int64_t n, float scale, void* out, Type out_type) = nullptr;
  // out[i * stride + r] = item i of row r, n items of 32 bits (f32, or bf16 pairs); count: whole vectors of rows.
  void (*transpose)(const void* const* rows, int count, int64_t n, void* out, int64_t stride) = nullptr;
  // n <= columns elements of two bf16 rows as one row of pairs of a panel, zeros after them; odd may be null.
  void (*zip)(const void* even, const void* odd, int64_t n, void* pairs) = nullptr;
  // Rows of n elements; out may be x.
  void (*layer_norm)(Row x, int64_t n, float eps, const float* weight, const float* bias, const float* shift,
                     const float* scale, void* out, Type out_type) = nullptr;
  void (*rms_norm)(Row x, int64_t n, float eps, const float* gain, void* out, Type out_type) = nullptr;
  // several consecutive rows
  void (*channel_norm)(Row x, int64_t rows, int64_t n, const float* gain, Activation act, void* out,
                       Type out_type) = nullptr;
  void (*rope)(Row x, const float* cos_sin, int64_t heads, int64_t pairs, void* out, Type out_type) = nullptr;
  void (*add)(Row x, Row y, float y_factor, int64_t n, void* out, Type out_type) = nullptr;
  void (*multiply)(Row x, Row y, int64_t n, void* out, Type out_type) = nullptr;
  void (*widen)(const void* bf16s, int64_t n, float* out) = nullptr;
  void (*activate)(Row x, int64_t n, Activation act, void* out, Type out_type) = nullptr;
  // One row of online softmax: s[i] = s[i] * scale + bias[i] (bias may be null); p = exp(s - max(old_max, max s))
  // stored as p_type; returns the sum of p as stored. new_max out.
  float (*online_softmax)(float* s, int64_t n, float scale, const float* bias, float old_max, float* new_max, void* p,
                          Type p_type) = nullptr;
  // o = o * factor
  void (*rescale)(float* o, float factor, int64_t n) = nullptr;
};

// Null if the build does not have the set. isa.h checks whether the CPU supports it.
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* avx512bf16_kernels();
const Kernels* amx_kernels();
const Kernels* amx_emulated_kernels();  // the same with tiles emulated by AVX-512, for tests on CPUs without AMX

}  // namespace liveavatar::cpu
