#include "backend/cuda/kernels/eight_bit.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace liveavatar::cuda {

int launch_product_s8(const int8_t* a, const int8_t* b, int k, int* d, void* stream) {
  return launch({"product_s8", dim3{1, 1, 1}, 32}, as_stream(stream), product_8bit<int>,
                reinterpret_cast<const uint8_t*>(a), reinterpret_cast<const uint8_t*>(b), k, d);
}
int launch_product_e4m3(const uint8_t* a, const uint8_t* b, int k, float* d, void* stream) {
  return launch({"product_e4m3", dim3{1, 1, 1}, 32}, as_stream(stream), product_8bit<float>, a, b, k, d);
}

}  // namespace liveavatar::cuda
