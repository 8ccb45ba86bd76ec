// A matrix product with the micro-kernel: rows in f32 or bf16 times micro-panels in f32 or bf16, or quantised and
// unpacked to bf16.
#pragma once

#include "backend/cpu/context.h"
#include "backend/cpu/product.h"

namespace liveavatar::cpu {

class TileProduct {
 public:
  static ScratchSizes scratch(const Kernels& kernels, int64_t k);

  TileProduct(CpuContext& context, const Product& p) : context_(context), kernels_(context.kernels()), p_(p) {}
  void run() const;

 private:
  void run_tile(const Tile& tile, ThreadScratch& scratch) const;
  void run_quantised(const Tile& block, ThreadScratch& scratch) const;

  CpuContext& context_;
  const Kernels& kernels_;
  const Product& p_;
};

}  // namespace liveavatar::cpu
