// Warp collectives: lanes come together at one place of the kernel, and the last to come does the work of all.
#pragma once

#include "backend/cuda/emulate/processor.h"

namespace liveavatar::cuda::emulate {

void collect(const Collective& collective, const Where& where);

template <typename Operands>
Operands& operands_of(Warp& warp, unsigned lane) {
  return *static_cast<Operands*>(warp.lanes[lane].collective.operands);
}

}  // namespace liveavatar::cuda::emulate
