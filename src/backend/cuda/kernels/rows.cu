#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/rows.cuh"

namespace liveavatar::cuda {
namespace {

template <typename In, typename Out>
int launch_rope_of(const RopeCall& c, Stream stream) {
  const int64_t pairs = c.rows * c.heads * c.pairs;
  const RopeArgs args{c.table, c.rows, int(c.heads), int(c.pairs)};
  return launch({"rope", dim3{blocks_for(pairs, kRowThreads), 1, 1}, kRowThreads}, stream, rope<In, Out>,
                static_cast<const In*>(c.x), args, static_cast<Out*>(c.out));
}
template <typename In>
int launch_rope_of(const RopeCall& c, Stream stream) {
  return c.out_type == ElementType::kF32 ? launch_rope_of<In, float>(c, stream) : launch_rope_of<In, bf16>(c, stream);
}

}  // namespace

int launch_layer_norm(const LayerNormCall& c, void* stream) {
  const NormArgs args{c.weight, c.bias, c.scale, c.shift, int(c.width), int(c.rows / c.groups), c.eps};
  const Launch l{"layer_norm", dim3{static_cast<unsigned>(c.rows), 1, 1}, kRowThreads};
  bf16* out = static_cast<bf16*>(c.out);
  if (c.width % 4 == 0) return launch(l, as_stream(stream), layer_norm<4, float, bf16>, c.x, args, out);
  return launch(l, as_stream(stream), layer_norm<1, float, bf16>, c.x, args, out);
}

int launch_rope(const RopeCall& c, void* stream) {
  if (c.x_type == ElementType::kF32) return launch_rope_of<float>(c, as_stream(stream));
  return launch_rope_of<bf16>(c, as_stream(stream));
}

}  // namespace liveavatar::cuda
