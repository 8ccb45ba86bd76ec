#include "backend/cuda/kernels/launches.h"
#include "backend/cuda/kernels/product_f32.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {
namespace {

// vectors: 4 columns of x lie side by side and aligned.
template <typename In>
int launch_product(const char* name, const ProductArgs<In>& p, bool vectors, Stream stream) {
  const unsigned groups = static_cast<unsigned>(p.w.n / p.group_columns);
  const dim3 grid{blocks_for(p.x.rows, kProductTile), blocks_for(p.group_columns, kProductTile), groups};
  const Launch l{name, grid, kProductThreads, kProductSharedBytes};
  if (vectors) return launch(l, stream, product_f32<4, In>, p);
  return launch(l, stream, product_f32<1, In>, p);
}

template <typename X>
int launch_linear_of(const LinearCall& c, Stream stream) {
  const auto p = linear_args<X>(c);
  return launch_product("linear_f32", p, p.x.has_vectors(4), stream);
}

template <typename X>
int launch_conv_of(const ConvCall& c, Stream stream) {
  const auto p = conv_args<X>(c);
  return launch_product("conv_f32", p, p.x.has_vectors(4), stream);
}

}  // namespace

int launch_linear_f32(const LinearCall& c, void* stream) {
  if (c.x.type == ElementType::kF32) return launch_linear_of<float>(c, as_stream(stream));
  return launch_linear_of<bf16>(c, as_stream(stream));
}

int launch_conv_f32(const ConvCall& c, void* stream) {
  if (c.x.type == ElementType::kF32) return launch_conv_of<float>(c, as_stream(stream));
  return launch_conv_of<bf16>(c, as_stream(stream));
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
