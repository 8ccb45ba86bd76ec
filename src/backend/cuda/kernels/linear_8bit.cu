#include "backend/cuda/kernels/gemm_launch.cuh"
#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {
namespace {

template <typename T>
int launch_linear_8bit_of(const Linear8bitCall& c, Stream stream) {
  using Shapes = GemmShapes<Pair<T>>;
  const auto p = linear_8bit_args<T>(c);
  if (c.large)
    return launch_gemm_as<Gemm<typename Shapes::Large, QuantisedInput<T>, Pair<T>, true>>("linear_8bit", p, stream);
  return launch_gemm_as<Gemm<typename Shapes::Small, QuantisedInput<T>, Pair<T>, true>>("linear_8bit", p, stream);
}

}  // namespace

int launch_linear_8bit(const Linear8bitCall& c, void* stream) {
  if (c.w.type == ElementType::kI8) return launch_linear_8bit_of<int8_t>(c, as_stream(stream));
  return launch_linear_8bit_of<e4m3>(c, as_stream(stream));
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
