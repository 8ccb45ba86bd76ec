// W8A8 on vectors: int8 weights times activations quantised to 8 bits row by row (BackendOptions::int8_products).
#pragma once

#include "backend/cpu/context.h"
#include "backend/cpu/product.h"

namespace liveavatar::cpu {

class Int8Product {
 public:
  static ScratchSizes scratch(const Kernels& kernels);
  // Bytes of CpuContext::shared for x of `elements` elements. With less memory there are several passes.
  static size_t shared_bytes(int64_t elements);

  Int8Product(CpuContext& context, const Product& p) : context_(context), kernels_(context.kernels()), p_(p) {}
  void run() const;

 private:
  // Quantised rows of x, which all threads read.
  struct Int8Rows {
    unsigned char* quantised = nullptr;
    float* scales = nullptr;        // for each row
    int64_t stride = 0, first = 0;  // bytes of a row; index of the first row
  };
  void quantise_rows(const Int8Rows& rows, int64_t count) const;
  void run_rows(const Int8Rows& rows, int64_t count) const;
  void run_block(const Tile& block, const Int8Rows& rows, ThreadScratch& scratch) const;

  CpuContext& context_;
  const Kernels& kernels_;
  const Product& p_;
};

}  // namespace liveavatar::cpu
