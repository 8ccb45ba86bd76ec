// int8 weights times activations that are rounded to 8 bits row by row (BackendOptions::int8_products), on vectors.
#pragma once

#include "backend/cpu/context.h"
#include "backend/cpu/product.h"

namespace liveavatar::cpu {

class Int8Product {
 public:
  static ScratchSizes scratch(const Kernels& kernels);
  // Of CpuContext::shared, for x of so many elements; with less there are several passes.
  static size_t shared_bytes(int64_t elements);

  Int8Product(CpuContext& context, const Product& p) : context_(context), kernels_(context.kernels()), p_(p) {}
  void run() const;

 private:
  // Rows of x in 8 bits, as all threads read them.
  struct RowCodes {
    unsigned char* codes = nullptr;
    float* scales = nullptr;        // a row each
    int64_t stride = 0, first = 0;  // bytes of a row; the first row's number
  };
  void quantise_rows(const RowCodes& rows, int64_t count) const;
  void run_rows(const RowCodes& rows, int64_t count) const;
  void run_block(const Tile& block, const RowCodes& rows, ThreadScratch& scratch) const;

  CpuContext& context_;
  const Kernels& kernels_;
  const Product& p_;
};

}  // namespace liveavatar::cpu
