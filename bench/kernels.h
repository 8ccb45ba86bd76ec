#pragma once

#include "backend/backend.h"
#include "limits.h"

namespace liveavatar::bench {

// Registers every kernel at the shapes of the mini, 1.3B and 14B models; `int8` is the same backend with int8 products.
// All that is passed must outlive the run.
void register_kernels(Backend& backend, Backend& int8, Budget& budget, const Limits& limits);

}  // namespace liveavatar::bench
