// Linear layers, and convolutions of single pixels: which product runs them.
#pragma once

#include "backend/cpu/context.h"
#include "backend/cpu/product.h"

namespace liveavatar::cpu {

// As LargestOps names them.
Status reserve_linear(CpuContext& context, int64_t elements, int64_t k);
void run_linear(CpuContext& context, const Product& p);

}  // namespace liveavatar::cpu
