// Kernels of one thread for each element or vector: their launch, and the index of a thread taken apart.
#pragma once

#include "backend/cuda/kernels/device.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

constexpr int kElementThreads = 256;

// `count` threads and those that fill the last block.
inline Launch thread_for_each(const char* name, int64_t count) {
  return {name, dim3{blocks_for(count, kElementThreads), 1, 1}, kElementThreads};
}
LA_DEVICE int64_t thread_of_grid() { return int64_t(blockIdx.x) * kElementThreads + threadIdx.x; }

struct Division {
  int64_t quotient, remainder;
};
// Both are not negative. A card divides 64 bits by a long routine, and most sizes fit in 32.
LA_DEVICE Division divide(int64_t a, int64_t b) {
  if (a < b) return {0, a};
  if (a <= 0xffffffff) {
    const uint32_t quotient = uint32_t(a) / uint32_t(b);
    return {quotient, uint32_t(a) - quotient * uint32_t(b)};
  }
  const int64_t quotient = a / b;
  return {quotient, a - quotient * b};
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
