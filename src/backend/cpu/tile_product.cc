#include "backend/cpu/tile_product.h"

#include <algorithm>
#include <cstring>

#include "core/rounding.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kStretch = 512;           // k that a quantised panel is unpacked for at once
constexpr int64_t kBlockRows = 16 * kRows;  // rows that one piece of work takes through a panel while it is in cache

// The bf16 dot product reads pairs: rows of an odd length are copied and padded, so that nothing behind them is read.
void pad_rows(const void** pointers, int64_t count, int64_t k, ThreadScratch& scratch) {
  size_t padded = static_cast<size_t>(k + 1) * sizeof(bf16);
  std::byte* copy = scratch.at<std::byte>(Piece::kRowCopies, count * static_cast<int64_t>(padded));
  for (int64_t i = 0; i < count; ++i, copy += padded) {
    std::memcpy(copy, pointers[i], padded - sizeof(bf16));
    std::memset(copy + padded - sizeof(bf16), 0, sizeof(bf16));
    pointers[i] = copy;
  }
}

}  // namespace

ScratchSizes TileProduct::scratch(const Kernels& kernels, int64_t k) {
  ScratchSizes s;
  s.want(Piece::kRowCopies, kRows * (k + 1), sizeof(bf16));
  s.want(Piece::kPanel, kStretch * kernels.columns, sizeof(bf16));
  s.want(Piece::kSums, kBlockRows * kernels.columns, sizeof(float));
  return s;
}

void TileProduct::run_tile(const Tile& t, ThreadScratch& scratch) const {
  const PanelShape& s = p_.shape;
  const void* pointers[kRows];
  for (int r = 0; r < t.rows; ++r) pointers[r] = p_.operand(t.first + r, 0);
  bool bf16_rows = p_.x->dtype == DType::kBF16;
  bool bf16_panel = s.dtype == DType::kBF16;
  bool in_pairs = bf16_rows && bf16_panel;
  if (in_pairs && s.k % 2 != 0) pad_rows(pointers, t.rows, s.k, scratch);
  TileArgs args;
  args.a = pointers;
  args.rows = t.rows;
  args.k = in_pairs ? round_up(s.k, 2) : s.k;
  args.b = p_.panel(t.panel);
  args.sums = scratch.sums;
  args.columns = p_.wanted_columns(t.panel);
  kernels_.tile[bf16_rows][bf16_panel](args);
  store_tile(kernels_, p_, t, scratch.sums);
}

// A block of rows, at most kBlockRows. A stretch of k is unpacked once and serves all rows of the block; sums go on
// from stretch to stretch, so that a row adds up in the order of k whatever runs beside it.
void TileProduct::run_quantised(const Tile& t, ThreadScratch& scratch) const {
  const PanelShape& s = p_.shape;
  const char* codes = static_cast<const char*>(p_.panel(t.panel)) + s.scale_bytes();
  bf16* unpacked = scratch.at<bf16>(Piece::kPanel, kStretch * s.columns);
  float* sums = scratch.at<float>(Piece::kSums, t.rows * s.columns);
  auto unpack = unpack_of(kernels_, s.dtype);
  bool bf16_rows = p_.x->dtype == DType::kBF16;
  const void* pointers[kRows];
  TileArgs args;
  args.a = pointers;
  args.b = unpacked;
  args.columns = p_.wanted_columns(t.panel);
  for (int64_t k = 0; k < s.k; k += kStretch) {
    int64_t depth = std::min(kStretch, s.k - k);
    unpack(codes + s.codes_bytes(k), depth, unpacked);
    args.k = bf16_rows ? round_up(depth, 2) : depth;
    args.more = k > 0;
    for (int row = 0; row < t.rows; row += kRows) {
      args.rows = std::min(kRows, t.rows - row);
      args.sums = sums + row * s.columns;
      for (int r = 0; r < args.rows; ++r) pointers[r] = p_.operand(t.first + row + r, k);
      if (bf16_rows && depth % 2 != 0) pad_rows(pointers, args.rows, depth, scratch);
      kernels_.tile[bf16_rows][1](args);
    }
  }
  store_rows(kernels_, p_, t, sums);
}

void TileProduct::run() const {
  int64_t blocks = ceil_div(p_.rows, kBlockRows);
  context_.pool().parallel_for(p_.shape.panels() * blocks, 1, [&](int64_t begin, int64_t end, int thread) {
    ThreadScratch& scratch = context_.scratch(thread);
    for (int64_t job = begin; job < end; ++job) {
      int64_t panel = job / blocks;
      int64_t first = job % blocks * kBlockRows;
      int64_t last = std::min(p_.rows, first + kBlockRows);
      if (is_quantised(p_.shape.dtype)) {
        run_quantised({first, panel, static_cast<int>(last - first)}, scratch);
        continue;
      }
      for (int64_t row = first; row < last; row += kRows)
        run_tile({row, panel, static_cast<int>(std::min<int64_t>(kRows, last - row))}, scratch);
    }
  });
}

}  // namespace liveavatar::cpu
