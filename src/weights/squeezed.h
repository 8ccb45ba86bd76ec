#pragma once

#include "core/tensor.h"

namespace liveavatar {

// The dimensions from `from` on, without those of size 1: a kernel of 1x1 may be stored as
// [O, I], [O, I, 1] or [O, I, 1, 1].
inline Shape squeezed(const Shape& shape, int from = 0) {
  Shape out;
  for (int i = from; i < shape.rank(); ++i) {
    if (shape[i] != 1) out.push_back(shape[i]);
  }
  return out;
}

}  // namespace liveavatar
