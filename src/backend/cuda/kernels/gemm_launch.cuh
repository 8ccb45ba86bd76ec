// The launch of gemm, for linear layers and convolutions.
#pragma once

#include "backend/cuda/kernels/gemm.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

template <typename S>
int launch_gemm_as(const char* name, const ProductArgs<typename S::In>& p, Stream stream) {
  const unsigned blocks = blocks_for(p.x.rows, S::kRows) * blocks_for(p.group_columns, S::kColumns);
  const dim3 grid{blocks, 1, static_cast<unsigned>(p.w.n / p.group_columns)};
  return launch({name, grid, S::kThreads, S::kSharedBytes}, stream, gemm<S>, p);
}

// W: as the weights are packed. large: the larger of the shapes of blocks.
template <typename W, typename In>
int launch_gemm(const char* name, const ProductArgs<In>& p, bool large, Stream stream) {
  using Shapes = GemmShapes<typename In::Element>;
  if (p.x.has_vectors(16 / sizeof(typename In::Element))) {
    if (large) return launch_gemm_as<Gemm<typename Shapes::Large, In, W, true>>(name, p, stream);
    return launch_gemm_as<Gemm<typename Shapes::Small, In, W, true>>(name, p, stream);
  }
  if (large) return launch_gemm_as<Gemm<typename Shapes::Large, In, W, false>>(name, p, stream);
  return launch_gemm_as<Gemm<typename Shapes::Small, In, W, false>>(name, p, stream);
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
