// Under the name of a unit that must multiply by mma: a kernel that does not, and that keeps an array in local memory.
// sass.py has to say both.
#include <cuda_runtime.h>

__global__ void gemm(const float* a, const int* order, float* out) {
  float values[64];
  for (int i = 0; i < 64; ++i) values[i] = a[i] * a[threadIdx.x];
  for (int i = 0; i < 64; ++i) values[order[i]] += values[i];
  out[threadIdx.x] = values[order[threadIdx.x]];
}
