// Device memory for rows of activations in 8 bits, with a scale for each (BackendOptions::int8_products).
#pragma once

#include "backend/cuda/device.h"
#include "backend/types.h"
#include "core/memory.h"

namespace liveavatar::cuda {

class QuantisedRows {
 public:
  struct Part {
    int64_t rows;
    std::byte* values;  // [rows, row_bytes]
    float* scales;      // [rows]
  };

  // budget: of the device; null: memory is not counted.
  QuantisedRows(CudaDevice& device, Budget* budget)
      : outside_(Budget::kUnlimited, device, host_), budget_(budget == nullptr ? outside_ : *budget) {}

  // For linear layers up to these sizes, charged to the budget (kRuntime).
  Status reserve(const LargestOps& largest);
  void release() { memory_ = Buffer(); }

  // As many of `rows` rows as there is memory for. Where that is little, memory outside of the budget is taken for
  // some; throws Failure if there is none. Rows of the part before are lost.
  Part take(int64_t rows, int64_t row_bytes);

 private:
  Status grow(size_t bytes, Budget& budget);

  Budget host_, outside_;
  Budget& budget_;
  Buffer memory_;
};

}  // namespace liveavatar::cuda
