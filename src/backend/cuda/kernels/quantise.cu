#include "backend/cuda/kernels/launches.h"
#include "backend/cuda/kernels/quantise.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {
namespace {

template <typename Format, typename T>
int launch_quantise_of(const QuantiseCall& c, Stream stream) {
  const QuantiseArgs args{c.rows * c.heads, int(c.head)};
  const T* x = static_cast<const T*>(c.x.data);
  uint8_t* out = static_cast<uint8_t*>(c.out.data);
  const int padded_head = int(c.head + c.padding);
  const bool wide = c.head % 4 == 0 && padded_head % 4 == 0 && hold_vectors(x, out);
  const auto kernel = wide ? quantise<Format, 4, T> : quantise<Format, 1, T>;
  const dim3 grid{blocks_for(args.heads, kQuantiseWarps), 1, 1};
  return launch({"quantise", grid, kQuantiseWarps * 32}, stream, kernel, x, args, padded_head, out, c.scale);
}

template <typename Format, typename T>
int launch_dequantise_of(const DequantiseCall& c, Stream stream) {
  const QuantiseArgs args{c.rows * c.heads, int(c.head)};
  const uint8_t* x = static_cast<const uint8_t*>(c.x.data);
  T* out = static_cast<T*>(c.out.data);
  const bool wide = c.head % 4 == 0 && hold_vectors(x, out);
  const auto kernel = wide ? dequantise<Format, 4, T> : dequantise<Format, 1, T>;
  const int64_t threads = args.heads * args.head / (wide ? 4 : 1);
  return launch(thread_for_each("dequantise", threads), stream, kernel, x, c.scale, args, out);
}

}  // namespace

int launch_quantise(const QuantiseCall& c, void* stream) {
  return for_type(c.x.type, [&]<typename T>(Type<T>) {
    if (c.out.type == ElementType::kI8) return launch_quantise_of<Int8, T>(c, as_stream(stream));
    return launch_quantise_of<E4m3, T>(c, as_stream(stream));
  });
}

int launch_dequantise(const DequantiseCall& c, void* stream) {
  return for_type(c.out.type, [&]<typename T>(Type<T>) {
    if (c.x.type == ElementType::kI8) return launch_dequantise_of<Int8, T>(c, as_stream(stream));
    return launch_dequantise_of<E4m3, T>(c, as_stream(stream));
  });
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
