// What one instruction set offers: plain functions over plain memory. Each kernels_<isa>.cc fills a table; nothing else
// of the engine is compiled with that set's flags, so that no shared inline function picks up instructions an older CPU
// lacks.
#pragma once

#include <cstdint>

namespace liveavatar::cpu {

// As in backend/types.h; repeated so that kernel files include nothing else.
enum class Act : int { kNone, kGeluTanh, kGeluErf, kSilu, kRelu };
enum class Type : int { kF32, kBF16 };

constexpr int kRows = 6;          // rows of a matrix tile; columns are Kernels::columns
constexpr int kMostColumns = 64;  // of every instruction set's tiles

// sums [rows][columns] f32 = sum over taps and k of a[tap * rows + row][k] * b. Sums run over taps, then k, ascending,
// for every tile alike: a row's bits do not depend on its neighbours.
struct TileArgs {
  const void* const* a = nullptr;  // row pointers, tap-major
  int rows = 0;                    // 1..kRows
  int64_t taps = 1, k = 0;         // k per tap
  const void* b = nullptr;         // packed panel, see pack.h
  float* sums = nullptr;
  int columns = kMostColumns;  // how many are wanted; sums behind them may be left as they were
  bool more = false;           // go on from the sums that are there
  int stride = 0;              // elements between rows of sums; 0: Kernels::columns
};

// out = residual + gate * act(sums * scale + bias) for one tile.
struct StoreArgs {
  const float* sums = nullptr;
  int rows = 0, columns = 0;     // rows: at most kMatrixRows
  const float* scale = nullptr;  // a factor a column, or null
  const float* bias = nullptr;   // at the tile's first column, or null
  Act act = Act::kNone;
  const float* const* gate = nullptr;  // a row pointer each, or null
  const void* residual = nullptr;      // at the tile's first element
  Type residual_type = Type::kF32;
  void* out = nullptr;
  Type out_type = Type::kF32;
  int64_t stride = 0;  // elements between rows of out and residual
};

// A convolution with few output channels, pixels in the lanes. Items are of 32 bits: f32, or bf16 pairs of channels.
// Sums run over lines, columns, then items, as a tile's run over taps and k.
struct NarrowArgs {
  const float* const* lines = nullptr;  // staged input lines, [items][pitch] each
  int64_t first = 0;                    // pixel of theirs
  int64_t line_count = 0, columns = 0;  // positions of the kernel: lines, and columns in each
  int64_t items = 0, pitch = 0;         // of an input pixel; between items
  const float* weights = nullptr;       // [line][column][items][channels]
  int channels = 0;                     // output channels: kNarrowFew, or whole halves of vectors
  int n = 0, pixels = 0;                // those that are wanted;
  float* sums = nullptr;                // [pixels, to whole vectors][n], and room for a vector behind it
};
// Sums in registers: half a vector's channels of three vectors of pixels; four channels of as many pixels as that
// leaves.
constexpr int kNarrowVectors = 3, kNarrowFew = 4;

// A tile of 8-bit codes: sums [rows][columns] of a[row][k] * b over some k, exact.
struct QuadArgs {
  const unsigned char* a = nullptr;  // rows of codes around 128, `stride` bytes apart
  int64_t stride = 0, quads = 0;     // quads: k / 4
  int rows = 0, columns = 0;         // rows: 1..kRows; columns: ignored, all are computed
  const void* b = nullptr;           // [quads][columns][4]
  int* sums = nullptr;
  int64_t sums_stride = 0;  // elements between rows of sums
  bool more = false;        // go on from the sums that are there
};

// A block of rows times a panel on a matrix unit: sums [rows][columns] of a b, f32 of bf16 pairs, whole numbers of
// codes. Sums run over taps, then items, in two rounds: whole pieces of kPieceItems first, then what is left behind
// them.
struct MatrixArgs {
  const void* const* a = nullptr;          // the first row, per tap
  int64_t row_bytes = 0, piece_bytes = 0;  // between rows, and between the pieces of a row
  int rows = 0, columns = 0;               // columns: how many are wanted; the others may be left as they were
  int64_t taps = 1, items = 0;             // items of 32 bits per tap: bf16 pairs, or four codes
  const void* b = nullptr;                 // [taps][items][columns of a panel]
  void* sums = nullptr;                    // [rows][columns of a panel]
  int64_t stride = 0;                      // elements between rows of sums; 0: the columns of a panel
  bool more = false;                       // go on from the sums that are there
  const void* soon[2] = {};                // memory that the next calls will read, to be brought to L2 meanwhile
  int64_t soon_bytes[2] = {};
};
constexpr int64_t kPieceItems = 16, kPieceBytes = 64;
constexpr int kMatrixRows = 32;  // that share what is loaded of b

// A row of attention's weights in 8 bits: codes = 255 * 2^(score - largest), a score (sum - offset) * scale of the key
// * factor + bias, all in powers of two. Codes behind n, up to a whole four, are zero.
struct CodeWeightsArgs {
  int* sums = nullptr;  // scores as sums of codes; they are lost
  int64_t n = 0;
  const int* offsets = nullptr;
  const float* scales = nullptr;
  float factor = 1;
  const float* bias = nullptr;  // or null; times log2(e)
  unsigned char* codes = nullptr;
  float largest = 0;  // out, as total: the sum of the codes
  float total = 0;
};

struct Row {
  const void* data = nullptr;
  Type type = Type::kF32;
};

struct Kernels {
  const char* name = "";
  int columns = 16;              // of a tile
  int lanes = 8;                 // of a vector
  bool multiplies_bf16 = false;  // the CPU has a dot product of bf16 pairs: tile[1][1]
  // [a type][b type]
  void (*tile[2][2])(const TileArgs&) = {};
  // Matrix units: of bf16, of codes around 128 times signed ones. Null where the CPU has none.
  void (*matrix)(const MatrixArgs&) = nullptr;
  void (*matrix_i8)(const MatrixArgs&) = nullptr;
  void (*store)(const StoreArgs&) = nullptr;
  void (*narrow[2])(const NarrowArgs&) = {};  // [item type]
  // Codes of k inputs (pack.h) as a bf16 panel, exactly.
  void (*unpack_i8)(const void* codes, int64_t k, void* panel) = nullptr;
  void (*unpack_f8)(const void* codes, int64_t k, void* panel) = nullptr;
  void (*unpack_q4)(const void* codes, int64_t k, void* panel) = nullptr;
  // Products of 8-bit codes, codes.inl; null where the CPU lacks them. quad_tile: where no matrix unit does it.
  void (*quantise_row)(Row x, int64_t n, unsigned char* codes, float* scale) = nullptr;
  // The other side of quantise_row: x - less in signed codes; offset = 128 * their sum.
  void (*quantise_key)(Row x, const float* less, int64_t n, signed char* codes, float* scale, int* offset) = nullptr;
  void (*quads_i8)(const void* codes, int64_t k, void* quads, int* offsets) = nullptr;
  void (*quad_tile)(const QuadArgs&) = nullptr;
  void (*scale_quads)(int* sums, int rows, const int* offsets, const float* scales) = nullptr;
  // Attention's weights and values in 8 bits.
  void (*code_weights)(CodeWeightsArgs&) = nullptr;
  // largest[i] = max(largest[i], |x[i]|)
  void (*largest_of)(Row x, int64_t n, float* largest) = nullptr;
  // Four rows of n bf16, null for zeros, times a factor a column: quads of a panel, zeros behind n.
  void (*quantise_values)(const void* const* rows, int64_t n, const float* factors, void* quads) = nullptr;
  // out = out * shrink + sums * scales * factor, a scale a column.
  void (*add_codes)(const int* sums, int64_t n, const float* scales, float factor, float shrink, float* out) = nullptr;
  // A row of codes times its scale.
  void (*decode_i8)(const void* codes, int64_t n, float scale, void* out, Type out_type) = nullptr;
  void (*decode_f8)(const void* codes, int64_t n, float scale, void* out, Type out_type) = nullptr;
  // out[i * stride + r] = item i of row r, n items of 32 bits (f32, or bf16 pairs); count: whole vectors of rows.
  void (*transpose)(const void* const* rows, int count, int64_t n, void* out, int64_t stride) = nullptr;
  // n <= columns elements of two bf16 rows as one row of pairs of a panel, zeros behind them; odd may be null.
  void (*zip)(const void* even, const void* odd, int64_t n, void* pairs) = nullptr;
  // Rows of n elements; out may be x.
  void (*layer_norm)(Row x, int64_t n, float eps, const float* weight, const float* bias, const float* shift,
                     const float* scale, void* out, Type out_type) = nullptr;
  void (*rms_norm)(Row x, int64_t n, float eps, const float* gain, void* out, Type out_type) = nullptr;
  // rows of them, one behind the other
  void (*channel_norm)(Row x, int64_t rows, int64_t n, const float* gain, Act act, void* out, Type out_type) = nullptr;
  void (*rope)(Row x, const float* cos_sin, int64_t heads, int64_t pairs, void* out, Type out_type) = nullptr;
  void (*add)(Row x, Row y, float y_factor, int64_t n, void* out, Type out_type) = nullptr;
  void (*multiply)(Row x, Row y, int64_t n, void* out, Type out_type) = nullptr;
  void (*widen)(const void* bf16s, int64_t n, float* out) = nullptr;
  void (*activate)(Row x, int64_t n, Act act, void* out, Type out_type) = nullptr;
  // One row of online softmax: s[i] = s[i] * scale + bias[i] (bias may be null); p = exp(s - max(old_max, max s))
  // stored as p_type; returns the sum of p as stored. new_max out.
  float (*online_softmax)(float* s, int64_t n, float scale, const float* bias, float old_max, float* new_max, void* p,
                          Type p_type) = nullptr;
  // o = o * factor
  void (*rescale)(float* o, float factor, int64_t n) = nullptr;
};

// Null where the build lacks the set; whether the CPU has it is isa.h's business.
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* avx512bf16_kernels();
const Kernels* amx_kernels();
const Kernels* amx_model_kernels();  // the same on tiles played by AVX-512, for tests on CPUs without AMX

}  // namespace liveavatar::cpu
