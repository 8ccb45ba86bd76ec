#include "backend/cuda/kernels/attention_f32.cuh"
#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {
namespace {

// Whether the start of each row and head is the address of a vector of 4.
bool has_vectors(const Input& x, int64_t head) {
  if (head % 4 != 0) return false;
  if (x.type == ElementType::kF32) return is_aligned(static_cast<const float*>(x.data), 4);
  if (x.type == ElementType::kBF16) return is_aligned(static_cast<const bf16*>(x.data), 4);
  return is_aligned(static_cast<const uint8_t*>(x.data), 4);
}

template <int kParts>
int launch_attention_of(const AttentionCall& c, Stream stream) {
  bool vectors = has_vectors(c.q, c.head);
  int64_t keys = 0;
  for (int64_t s = 0; s < c.segment_count; ++s) {
    vectors = vectors && has_vectors(c.segments[s].k, c.head) && has_vectors(c.segments[s].v, c.head);
    keys += c.segments[s].length;
  }
  const dim3 grid{blocks_for(c.queries, kBlockQueries), static_cast<unsigned>(c.heads), 1};
  const Launch l{"attention_f32", grid, kAttentionThreads, attention_shared_bytes(int(c.head))};
  if (vectors) return launch(l, stream, attention_f32<kParts, 4>, c, keys);
  return launch(l, stream, attention_f32<kParts, 1>, c, keys);
}

}  // namespace

int launch_attention_f32(const AttentionCall& c, void* stream) {
  if (c.head <= 128) return launch_attention_of<1>(c, as_stream(stream));
  if (c.head <= 256) return launch_attention_of<2>(c, as_stream(stream));
  return launch_attention_of<4>(c, as_stream(stream));
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
