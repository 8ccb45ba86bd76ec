// Shared memory of a block and its shadow: who touched what between two barriers.
#pragma once

#include "backend/cuda/emulate/processor.h"

namespace liveavatar::cuda::emulate {

// Fresh for a block: the dynamic part is allocated, and nothing counts as written.
void begin_shared(Processor& p);
// The access lies in shared memory and the kernel is instrumented.
void check_shared(Processor& p, const Access& access);
// An asynchronous copy to these bytes counts from now on as a write of the current thread.
void land_in_shared(Processor& p, const std::byte* at, size_t bytes);

}  // namespace liveavatar::cuda::emulate
