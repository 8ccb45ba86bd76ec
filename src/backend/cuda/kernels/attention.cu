#include "backend/cuda/kernels/attention.cuh"
#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {
namespace {

template <int kHead>
int launch_attention_of(const AttentionArgs& a, Stream stream) {
  using S = AttentionShape<kHead>;
  const dim3 grid{blocks_for(a.queries, S::kQueries), static_cast<unsigned>(a.heads), 1};
  return launch({"attention", grid, S::kThreads, S::kSharedBytes}, stream, attention<kHead>, a);
}

}  // namespace

int launch_attention_bf16(const AttentionCall& c, void* stream) {
  constexpr float kLog2E = 1.4426950408889634f;
  AttentionArgs a{};
  a.q = static_cast<const bf16*>(c.q.data);
  a.out = static_cast<bf16*>(c.out.data);
  for (int64_t s = 0; s < c.segment_count; ++s) {
    a.segments[s] = {static_cast<const bf16*>(c.segments[s].k.data), static_cast<const bf16*>(c.segments[s].v.data),
                     int(c.segments[s].length)};
  }
  a.segment_count = int(c.segment_count);
  a.queries = int(c.queries);
  a.heads = int(c.heads);
  a.head = int(c.head);
  a.scale = c.scale * kLog2E;
  return c.head <= 64 ? launch_attention_of<64>(a, as_stream(stream)) : launch_attention_of<128>(a, as_stream(stream));
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
