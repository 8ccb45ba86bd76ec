// A matrix product on a matrix unit (Kernels::matrix): rows in bf16, or quantised to 8 bits, times micro-panels in bf16
// or quantised.
#pragma once

#include <algorithm>

#include "backend/cpu/context.h"
#include "backend/cpu/product.h"
#include "core/rounding.h"

namespace liveavatar::cpu {

class MatrixProduct {
 public:
  // Whether the CPU has a unit for these types.
  static bool fits(const CpuContext& context, const Product& p);
  static ScratchSizes scratch(const CpuContext& context, int64_t k);
  // Bytes of CpuContext::shared for x of `elements` elements. With less memory there are several passes.
  static size_t shared_bytes(int64_t elements);

  MatrixProduct(CpuContext& context, const Product& p);
  void run();

 private:
  // Rows of x that fit into the shared memory: packed once, then multiplied.
  struct Pass {
    int64_t first = 0, rows = 0;
  };
  // An MC block of a pass' rows and an NC block of panels.
  struct Block {
    int64_t index = 0;  // in the pass
    int rows = 0;
    int64_t panel = 0, panels = 0;  // the first one; their count
    float* acc = nullptr;           // [panels][mc_][columns]
    int* offsets = nullptr;         // [panels][columns], of int8 values
  };

  int64_t row_bytes() const { return ceil_div(items_, kChunkItems) * kChunkBytes; }
  int64_t item_k() const { return int8_ ? 4 : 2; }
  int rows_of(const Pass& pass, int64_t block) const {
    return static_cast<int>(std::min(mc_, pass.rows - block * mc_));
  }
  int64_t acc_at(int64_t panel) const { return panel * mc_ * p_.shape.columns; }
  std::byte* chunk(int64_t block, int rows, int64_t i) const {
    return packed_ + block * mc_ * row_bytes() + i * rows * kChunkBytes;
  }

  void cut(int64_t memory_bytes);
  void run_pass(const Pass& pass) const;
  void pack_row(const Pass& pass, int64_t row, ThreadScratch& scratch) const;
  void run_block(const Pass& pass, int64_t index, int64_t group, ThreadScratch& scratch) const;
  void multiply_kc_block(const Block& block, int64_t item, ThreadScratch& scratch) const;
  const void* panel_kc_block(int64_t panel, int64_t item, int* offsets, ThreadScratch& scratch) const;
  void store_block(const Pass& pass, const Block& block) const;

  CpuContext& context_;
  const Kernels& kernels_;
  const Product& p_;
  bool int8_;                       // both operands are 8-bit
  int64_t items_;                   // of a row: bf16 pairs, or groups of four int8 values
  int64_t pass_rows_ = 0, mc_ = 0;  // at most
  int64_t nc_panels_ = 0;           // at most
  std::byte* packed_ = nullptr;     // a pass, block by block: [chunks][rows of the block][64]
  float* scales_ = nullptr;         // of int8 values, for each row
};

}  // namespace liveavatar::cpu
