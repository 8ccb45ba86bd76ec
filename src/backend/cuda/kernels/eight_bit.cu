#include "backend/cuda/kernels/eight_bit.cuh"
#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

int launch_product_8bit(const Product8bitCall& c, void* stream) {
  const auto* a = static_cast<const uint8_t*>(c.a);
  const auto* b = static_cast<const uint8_t*>(c.b);
  const Launch l{"product_8bit", dim3{1, 1, 1}, 32};
  if (c.type == ElementType::kI8)
    return launch(l, as_stream(stream), product_8bit<int>, a, b, c.k, static_cast<int*>(c.d));
  return launch(l, as_stream(stream), product_8bit<float>, a, b, c.k, static_cast<float*>(c.d));
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
