#include "backend/cpu/tile_product.h"

#include <algorithm>
#include <cstring>

#include "core/rounding.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kKc = 512;         // k of a quantised panel that is unpacked at a time
constexpr int64_t kMc = 16 * kRows;  // rows of a job that share a panel while it is in cache

// The bf16 dot product reads pairs: rows of odd length are copied and padded, so that no read is out of bounds.
void pad_rows(const void** pointers, int64_t count, int64_t k, ThreadScratch& scratch) {
  size_t padded = static_cast<size_t>(k + 1) * sizeof(bf16);
  std::byte* copy = scratch.at<std::byte>(ScratchBuffer::kRowCopies, count * static_cast<int64_t>(padded));
  for (int64_t i = 0; i < count; ++i, copy += padded) {
    std::memcpy(copy, pointers[i], padded - sizeof(bf16));
    std::memset(copy + padded - sizeof(bf16), 0, sizeof(bf16));
    pointers[i] = copy;
  }
}

}  // namespace

ScratchSizes TileProduct::scratch(const Kernels& kernels, int64_t k) {
  ScratchSizes s;
  s.want(ScratchBuffer::kRowCopies, kRows * (k + 1), sizeof(bf16));
  s.want(ScratchBuffer::kPanel, kKc * kernels.columns, sizeof(bf16));
  s.want(ScratchBuffer::kAcc, kMc * kernels.columns, sizeof(float));
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
  args.acc = scratch.acc;
  args.columns = p_.wanted_columns(t.panel);
  kernels_.tile[bf16_rows][bf16_panel](args);
  store_tile(kernels_, p_, t, scratch.acc);
}

// An MC block of rows. A KC block is unpacked once for all rows of the block. Accumulation continues from KC block to
// KC block, so a row is always summed in the order of k.
void TileProduct::run_quantised(const Tile& t, ThreadScratch& scratch) const {
  const PanelShape& s = p_.shape;
  const char* quantised = static_cast<const char*>(p_.panel(t.panel)) + s.scale_bytes();
  bf16* unpacked = scratch.at<bf16>(ScratchBuffer::kPanel, kKc * s.columns);
  float* acc = scratch.at<float>(ScratchBuffer::kAcc, t.rows * s.columns);
  auto unpack = unpack_of(kernels_, s.dtype);
  bool bf16_rows = p_.x->dtype == DType::kBF16;
  const void* pointers[kRows];
  TileArgs args;
  args.a = pointers;
  args.b = unpacked;
  args.columns = p_.wanted_columns(t.panel);
  for (int64_t k = 0; k < s.k; k += kKc) {
    int64_t depth = std::min(kKc, s.k - k);
    unpack(quantised + s.quantised_bytes(k), depth, unpacked);
    args.k = bf16_rows ? round_up(depth, 2) : depth;
    args.accumulate = k > 0;
    for (int row = 0; row < t.rows; row += kRows) {
      args.rows = std::min(kRows, t.rows - row);
      args.acc = acc + row * s.columns;
      for (int r = 0; r < args.rows; ++r) pointers[r] = p_.operand(t.first + row + r, k);
      if (bf16_rows && depth % 2 != 0) pad_rows(pointers, args.rows, depth, scratch);
      kernels_.tile[bf16_rows][1](args);
    }
  }
  store_rows(kernels_, p_, t, acc);
}

void TileProduct::run() const {
  int64_t blocks = ceil_div(p_.rows, kMc);
  context_.pool().parallel_for(p_.shape.panels() * blocks, 1, [&](int64_t begin, int64_t end, int thread) {
    ThreadScratch& scratch = context_.scratch(thread);
    for (int64_t job = begin; job < end; ++job) {
      int64_t panel = job / blocks;
      int64_t first = job % blocks * kMc;
      int64_t last = std::min(p_.rows, first + kMc);
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
