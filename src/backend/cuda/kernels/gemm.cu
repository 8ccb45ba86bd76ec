#include "backend/cuda/kernels/gemm.cuh"
#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {
namespace {

template <typename S, bool kAligned, typename Out>
int launch_gemm_of(const GemmArgs& g, Stream stream) {
  const dim3 grid{blocks_for(g.n, S::kColumns), blocks_for(g.m, S::kRows), 1};
  return launch({"gemm", grid, S::kThreads, S::kSharedBytes}, stream, gemm<S, kAligned, Out>, g);
}
template <typename S, bool kAligned>
int launch_gemm_of(const GemmArgs& g, ElementType out, Stream stream) {
  if (out == ElementType::kF32) return launch_gemm_of<S, kAligned, float>(g, stream);
  return launch_gemm_of<S, kAligned, bf16>(g, stream);
}
template <typename S>
int launch_gemm_of(const GemmArgs& g, ElementType out, Stream stream) {
  return g.k % 8 == 0 ? launch_gemm_of<S, true>(g, out, stream) : launch_gemm_of<S, false>(g, out, stream);
}

}  // namespace

int launch_gemm_bf16(const GemmCall& c, void* stream) {
  GemmArgs g{};
  g.x = static_cast<const bf16*>(c.x);
  g.w = static_cast<const bf16*>(c.w);
  g.bias = c.bias;
  g.gate = c.gate;
  g.residual = c.residual;
  g.out = c.out;
  g.m = int(c.m);
  g.n = int(c.n);
  g.k = int(c.k);
  g.w_stride = int(c.w_stride);
  g.rows_per_gate = int(c.m / c.groups);
  g.activation = c.activation;
  if (c.large) return launch_gemm_of<LargeGemm>(g, c.out_type, as_stream(stream));
  return launch_gemm_of<SmallGemm>(g, c.out_type, as_stream(stream));
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
