#include "backend/cpu/int8_product.h"

#include <algorithm>

#include "backend/cpu/kernel_types.h"
#include "core/rounding.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kStretch = 1536;          // k of codes at once: so their sums are seldom put away
constexpr int64_t kBlockRows = 64 * kRows;  // of codes: unpacking the panel's costs more beside their products
constexpr int64_t kLeastBytes = 256 << 10;  // for rows in 8 bits

}  // namespace

ScratchSizes Int8Product::scratch(const Kernels& kernels) {
  ScratchSizes s;
  s.want(Piece::kPanel, kStretch * kernels.columns, 1);
  s.want(Piece::kSums, kBlockRows * kernels.columns, sizeof(float));
  s.want(Piece::kOffsets, kernels.columns, sizeof(int));
  return s;
}

size_t Int8Product::shared_bytes(int64_t elements) {
  int64_t scales = elements / 64;  // 4 bytes a row, of rows of 256 elements or more
  return static_cast<size_t>(std::max(kLeastBytes, elements + scales));
}

void Int8Product::quantise_rows(const RowCodes& rows, int64_t count) const {
  context_.pool().parallel_for(count, kRows, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const Row row{p_.operand(rows.first + i, 0), type_of(p_.x->dtype)};
      kernels_.quantise_row(row, p_.shape.k, rows.codes + i * rows.stride, rows.scales + i);
    }
  });
}

// A block of rows through a panel of codes: as TileProduct::run_quantised, with exact sums.
void Int8Product::run_block(const Tile& t, const RowCodes& rows, ThreadScratch& scratch) const {
  const PanelShape& s = p_.shape;
  const char* codes = static_cast<const char*>(p_.panel(t.panel)) + s.scale_bytes();
  std::byte* quads = scratch.at<std::byte>(Piece::kPanel, kStretch * s.columns);
  int* sums = scratch.at<int>(Piece::kSums, t.rows * s.columns);
  int* offsets = scratch.at<int>(Piece::kOffsets, s.columns);
  std::fill_n(offsets, s.columns, 0);
  int64_t first = t.first - rows.first;
  QuadArgs args;
  args.stride = rows.stride;
  args.b = quads;
  args.sums_stride = s.columns;
  for (int64_t k = 0; k < s.k; k += kStretch) {
    int64_t depth = std::min(kStretch, s.k - k);
    kernels_.quads_i8(codes + s.codes_bytes(k), depth, quads, offsets);
    args.quads = ceil_div(depth, 4);
    args.more = k > 0;
    for (int row = 0; row < t.rows; row += kRows) {
      args.rows = std::min(kRows, t.rows - row);
      args.a = rows.codes + (first + row) * rows.stride + k;
      args.sums = sums + row * s.columns;
      kernels_.quad_tile(args);
    }
  }
  kernels_.scale_quads(sums, t.rows, offsets, rows.scales + first);
  store_rows(kernels_, p_, t, reinterpret_cast<const float*>(sums));
}

void Int8Product::run_rows(const RowCodes& rows, int64_t count) const {
  int64_t blocks = ceil_div(count, kBlockRows);
  context_.pool().parallel_for(p_.shape.panels() * blocks, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t job = begin; job < end; ++job) {
      int64_t panel = job / blocks;
      int64_t first = job % blocks * kBlockRows;
      int block_rows = static_cast<int>(std::min(kBlockRows, count - first));
      run_block({rows.first + first, panel, block_rows}, rows, context_.scratch(thread));
    }
  });
}

// Rows are quantised once for all threads and panels, as many at a time as fit.
void Int8Product::run() const {
  const Buffer& memory = context_.shared(shared_bytes(0));
  RowCodes rows;
  rows.codes = reinterpret_cast<unsigned char*>(memory.data());
  rows.stride = round_up(p_.shape.k, 4);
  int64_t fitting = static_cast<int64_t>(memory.bytes()) / (rows.stride + static_cast<int64_t>(sizeof(float)));
  LA_CHECK(fitting > 0);
  while (rows.first < p_.rows) {
    int64_t count = std::min(fitting, p_.rows - rows.first);
    rows.scales = reinterpret_cast<float*>(rows.codes + count * rows.stride);
    quantise_rows(rows, count);
    run_rows(rows, count);
    rows.first += count;
  }
}

}  // namespace liveavatar::cpu
