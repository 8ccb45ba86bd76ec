#include "backend/cuda/kernels/launches.h"
#include "backend/cuda/kernels/rows.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {
namespace {

template <typename In, typename Out>
int launch_layer_norm_of(const LayerNormCall& c, Stream stream) {
  const NormArgs args{c.weight, c.bias, c.scale, c.shift, int(c.width), int(c.rows / c.groups), c.eps};
  const Launch l{"layer_norm", dim3{static_cast<unsigned>(c.rows), 1, 1}, kRowThreads};
  const In* x = static_cast<const In*>(c.x.data);
  Out* out = static_cast<Out*>(c.out.data);
  if (c.width % 4 == 0) return launch(l, stream, layer_norm<4, In, Out>, x, args, out);
  return launch(l, stream, layer_norm<1, In, Out>, x, args, out);
}

template <int kWide, typename In, typename Out>
int launch_rms_norm_of(const RmsNormCall& c, Stream stream) {
  const RmsNormArgs args{c.gain, c.rows, int(c.width), c.eps, c.activation};
  const In* x = static_cast<const In*>(c.x.data);
  Out* out = static_cast<Out*>(c.out.data);
  if (c.channels) {
    const dim3 grid{blocks_for(c.rows, kRowThreads / 32), 1, 1};
    return launch({"channel_norm", grid, kRowThreads}, stream, channel_norm<kWide, In, Out>, x, args, out);
  }
  const dim3 grid{static_cast<unsigned>(c.rows), 1, 1};
  return launch({"rms_norm", grid, kRowThreads}, stream, rms_norm<kWide, In, Out>, x, args, out);
}

template <typename In, typename Out>
int launch_rope_of(const RopeCall& c, Stream stream) {
  const int64_t pairs = c.rows * c.heads * c.pairs;
  const RopeArgs args{c.table, c.rows, int(c.heads), int(c.pairs)};
  return launch({"rope", dim3{blocks_for(pairs, kRowThreads), 1, 1}, kRowThreads}, stream, rope<In, Out>,
                static_cast<const In*>(c.x.data), args, static_cast<Out*>(c.out.data));
}

}  // namespace

int launch_layer_norm(const LayerNormCall& c, void* stream) {
  return for_types(c.x.type, c.out.type, [&]<typename In, typename Out>(Types<In, Out>) {
    return launch_layer_norm_of<In, Out>(c, as_stream(stream));
  });
}

int launch_rms_norm(const RmsNormCall& c, void* stream) {
  return for_types(c.x.type, c.out.type, [&]<typename In, typename Out>(Types<In, Out>) {
    if (c.width % 4 == 0) return launch_rms_norm_of<4, In, Out>(c, as_stream(stream));
    return launch_rms_norm_of<1, In, Out>(c, as_stream(stream));
  });
}

int launch_rope(const RopeCall& c, void* stream) {
  return for_types(c.x.type, c.out.type, [&]<typename In, typename Out>(Types<In, Out>) {
    return launch_rope_of<In, Out>(c, as_stream(stream));
  });
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
