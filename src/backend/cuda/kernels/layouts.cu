#include "backend/cuda/kernels/launches.h"
#include "backend/cuda/kernels/layouts.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {
namespace {

PatchArgs patch_args(const PatchCall& c) {
  const int64_t tokens = (c.frames / c.pf) * (c.rows / c.ph) * (c.columns / c.pw);
  PatchArgs a{};
  a.elements = tokens * c.channels * c.pf * c.ph * c.pw;
  a.channels = int(c.channels);
  a.frames = int(c.frames);
  a.rows = int(c.rows);
  a.columns = int(c.columns);
  a.pf = int(c.pf);
  a.ph = int(c.ph);
  a.pw = int(c.pw);
  a.channel_first = c.to_tokens;
  return a;
}

template <typename S, typename In, typename Out>
int launch_transpose_of(const TransposeCall& c, Stream stream) {
  const unsigned channel_tiles = blocks_for(c.channels, S::kChannels);
  const TransposeArgs args{c.scale, c.shift, c.pixels, int(c.channels), int(channel_tiles), c.channels_last};
  const dim3 grid{channel_tiles * blocks_for(c.pixels, S::kPixels), 1, 1};
  return launch({"transpose", grid, S::kThreads}, stream, transpose<S, In, Out>, static_cast<const In*>(c.x.data), args,
                static_cast<Out*>(c.out.data));
}

}  // namespace

int launch_patch(const PatchCall& c, void* stream) {
  return for_types(c.from.type, c.to.type, [&]<typename In, typename Out>(Types<In, Out>) {
    const PatchArgs args = patch_args(c);
    const auto kernel = c.to_tokens ? video_to_tokens<In, Out> : tokens_to_video<In, Out>;
    return launch(thread_for_each("patch", args.elements), as_stream(stream), kernel,
                  static_cast<const In*>(c.from.data), args, static_cast<Out*>(c.to.data));
  });
}

int launch_transpose(const TransposeCall& c, void* stream) {
  return for_types(c.x.type, c.out.type, [&]<typename In, typename Out>(Types<In, Out>) {
    if (c.channels <= FlatTranspose::kChannels) {
      return launch_transpose_of<FlatTranspose, In, Out>(c, as_stream(stream));
    }
    return launch_transpose_of<SquareTranspose, In, Out>(c, as_stream(stream));
  });
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
