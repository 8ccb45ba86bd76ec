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
  const X* x = static_cast<const X*>(c.x.data);
  const ProductArgs<MatrixInput<X>> p{{x, int(c.m), int(c.w.k)},    c.w,       c.epilogue, c.out,
                                      int(c.m / c.epilogue.groups), int(c.w.n)};
  return launch_product("linear_f32", p, c.w.k % 4 == 0 && is_aligned(x, 4), stream);
}

template <typename X>
int launch_conv_of(const ConvCall& c, Stream stream) {
  ConvInput<X> in{};
  in.x = static_cast<const X*>(c.x.data);
  in.history = static_cast<const X*>(c.history.data);
  in.history_frames = int(c.history_frames);
  in.zero_frames = int(c.zero_frames);
  in.height = int(c.rows);
  in.width = int(c.columns);
  in.channels = int(c.channels);
  in.group_channels = int(c.channels / c.groups);
  in.upsample = c.upsample2x ? 1 : 0;
  in.kernel_rows = int(c.kernel[1]);
  in.kernel_columns = int(c.kernel[2]);
  in.frame_stride = int(c.stride[0]);
  in.row_stride = int(c.stride[1]);
  in.column_stride = int(c.stride[2]);
  in.pad_top = int(c.pad_top);
  in.pad_left = int(c.pad_left);
  in.out_rows = int(c.out_rows);
  in.out_columns = int(c.out_columns);
  in.rows = int(c.out_frames * c.out_rows * c.out_columns);
  in.k_end = int(c.w.k);
  const bool vectors = in.group_channels % 4 == 0 && is_aligned(in.x, 4) && is_aligned(in.history, 4);
  const ProductArgs<ConvInput<X>> p{in, c.w, c.epilogue, c.out, in.rows, int(c.w.n / c.groups)};
  return launch_product("conv_f32", p, vectors, stream);
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
