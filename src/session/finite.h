// Whether what the model gives are numbers, and where they stopped being some.
#pragma once

#include <cstdint>

#include "backend/backend.h"

namespace liveavatar {

// What gave some values; all counts begin at 0.
struct ComputedBy {
  int64_t block = 0, step = -1, layer = -1;  // -1: all of them are done
};

// kCorrupt where values of an f32 tensor are not finite; the line begins with the place. Waits for them.
Status check_finite(Backend& backend, const Tensor& values, const ComputedBy& by);

}  // namespace liveavatar
