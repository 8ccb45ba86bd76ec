#include "backend/cuda/kernels/attention.cuh"
#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {
namespace {

template <int kHead, bool kEightBit>
int launch_attention_of(const AttentionArgs& a, Stream stream) {
  using S = AttentionShape<kHead, kEightBit>;
  const dim3 grid{blocks_for(a.queries, S::kQueries), static_cast<unsigned>(a.heads), 1};
  return launch({"attention", grid, S::kThreads, S::kSharedBytes}, stream, attention<S>, a);
}
template <int kHead>
int launch_attention_of(const AttentionArgs& a, bool eight_bit, Stream stream) {
  return eight_bit ? launch_attention_of<kHead, true>(a, stream) : launch_attention_of<kHead, false>(a, stream);
}

const float* scale_of(const Input& x, const float* scale) { return x.type == ElementType::kBF16 ? nullptr : scale; }

}  // namespace

int launch_attention_bf16(const AttentionCall& c, void* stream) {
  constexpr float kLog2E = 1.4426950408889634f;
  AttentionArgs a{};
  bool eight_bit = false;
  a.q = static_cast<const bf16*>(c.q.data);
  a.out = static_cast<bf16*>(c.out.data);
  for (int64_t i = 0; i < c.segment_count; ++i) {
    const AttentionCall::Segment& s = c.segments[i];
    a.segments[i] = {s.k, s.v, scale_of(s.k, s.k_scale), scale_of(s.v, s.v_scale), int(s.length)};
    eight_bit = eight_bit || s.k.type != ElementType::kBF16 || s.v.type != ElementType::kBF16;
  }
  a.segment_count = int(c.segment_count);
  a.queries = int(c.queries);
  a.heads = int(c.heads);
  a.head = int(c.head);
  a.scale = c.scale * kLog2E;
  if (c.head <= 64) return launch_attention_of<64>(a, eight_bit, as_stream(stream));
  return launch_attention_of<128>(a, eight_bit, as_stream(stream));
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
