#include "backend/cuda/kernels/gemm_launch.cuh"
#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

int launch_linear_bf16(const LinearCall& c, void* stream) {
  return for_type(c.x.type, [&]<typename X>(Type<X>) {
    const auto p = linear_args<X>(c);
    switch (c.w.type) {
      case ElementType::kI8:
        return launch_gemm<int8_t>("linear", p, c.large, as_stream(stream));
      case ElementType::kE4M3:
        return launch_gemm<e4m3>("linear", p, c.large, as_stream(stream));
      case ElementType::kQ4:
        return launch_gemm<Nibbles>("linear", p, c.large, as_stream(stream));
      default:
        return launch_gemm<bf16>("linear", p, c.large, as_stream(stream));
    }
  });
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
