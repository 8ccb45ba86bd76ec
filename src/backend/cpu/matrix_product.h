// A matrix product on a matrix unit (Kernels::matrix): rows of bf16, or rounded to 8 bits, times panels of bf16 or
// codes.
#pragma once

#include <algorithm>

#include "backend/cpu/context.h"
#include "backend/cpu/product.h"
#include "core/rounding.h"

namespace liveavatar::cpu {

class MatrixProduct {
 public:
  // Whether there is a unit for these types.
  static bool fits(const CpuContext& context, const Product& p);
  static ScratchSizes scratch(const CpuContext& context, int64_t k);
  // Of CpuContext::shared, for x of so many elements; with less there are several passes.
  static size_t shared_bytes(int64_t elements);

  MatrixProduct(CpuContext& context, const Product& p);
  void run();

 private:
  // Some rows of x, as many as fit into the shared memory: packed once, then multiplied.
  struct Pass {
    int64_t first = 0, rows = 0;
  };
  // A block of a pass' rows and a group of panels.
  struct Block {
    int64_t index = 0;  // in the pass
    int rows = 0;
    int64_t panel = 0, panels = 0;  // the first one; how many
    float* sums = nullptr;          // [panels][block_rows_][columns]
    int* offsets = nullptr;         // [panels][columns], of codes
  };

  int64_t row_bytes() const { return ceil_div(items_, kPieceItems) * kPieceBytes; }
  int64_t item_k() const { return codes_ ? 4 : 2; }
  int rows_of(const Pass& pass, int64_t block) const {
    return static_cast<int>(std::min(block_rows_, pass.rows - block * block_rows_));
  }
  int64_t sums_at(int64_t panel) const { return panel * block_rows_ * p_.shape.columns; }
  std::byte* piece(int64_t block, int rows, int64_t i) const {
    return packed_ + block * block_rows_ * row_bytes() + i * rows * kPieceBytes;
  }

  void cut(int64_t memory_bytes);
  void run_pass(const Pass& pass) const;
  void pack_row(const Pass& pass, int64_t row, ThreadScratch& scratch) const;
  void run_block(const Pass& pass, int64_t index, int64_t group, ThreadScratch& scratch) const;
  void multiply_stretch(const Block& block, int64_t item, ThreadScratch& scratch) const;
  const void* panel_stretch(int64_t panel, int64_t item, int* offsets, ThreadScratch& scratch) const;
  void store_block(const Pass& pass, const Block& block) const;

  CpuContext& context_;
  const Kernels& kernels_;
  const Product& p_;
  bool codes_;                              // both operands in 8 bits
  int64_t items_;                           // of a row: bf16 pairs, or four codes
  int64_t pass_rows_ = 0, block_rows_ = 0;  // at most
  int64_t group_panels_ = 0;                // at most
  std::byte* packed_ = nullptr;             // a pass, block after block: [pieces][rows of the block][64]
  float* scales_ = nullptr;                 // of codes, a row each
};

}  // namespace liveavatar::cpu
