#include "backend/cuda/kernels/gemm_launch.cuh"
#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

int launch_conv_bf16(const ConvCall& c, void* stream) {
  return for_type(c.x.type, [&]<typename X>(Type<X>) {
    return launch_gemm<bf16>("conv", conv_args<X>(c), c.large, as_stream(stream));
  });
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
