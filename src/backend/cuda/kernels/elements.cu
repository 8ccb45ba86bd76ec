#include "backend/cuda/kernels/elements.cuh"
#include "backend/cuda/kernels/launches.h"

namespace liveavatar::cuda::LA_CUDA_VARIANT {
namespace {

template <typename X, typename Y, typename Out>
int launch_binary_of(const BinaryCall& c, Stream stream) {
  const BinaryArgs args{c.elements, c.y_elements, c.multiply, c.factor};
  const X* x = static_cast<const X*>(c.x.data);
  const Y* y = static_cast<const Y*>(c.y.data);
  Out* out = static_cast<Out*>(c.out.data);
  const bool wide = c.elements % 4 == 0 && c.y_elements % 4 == 0 && hold_vectors(x, y, out);
  const auto kernel = wide ? binary<4, X, Y, Out> : binary<1, X, Y, Out>;
  return launch(thread_for_each("binary", c.elements / (wide ? 4 : 1)), stream, kernel, x, y, args, out);
}

template <typename F, typename In, typename Out>
int launch_map(const char* name, const In* x, int64_t elements, F f, Out* out, Stream stream) {
  const bool wide = elements % 4 == 0 && hold_vectors(x, out);
  const auto kernel = wide ? map<4, In, Out, F> : map<1, In, Out, F>;
  return launch(thread_for_each(name, elements / (wide ? 4 : 1)), stream, kernel, x, elements, f, out);
}

template <typename Unit>
int launch_copy_rows_of(const CopyRowsCall& c, Stream stream) {
  constexpr int64_t kBytes = sizeof(Unit);
  const CopyArgs args{c.from_stride_bytes / kBytes, c.to_stride_bytes / kBytes, c.rows, c.row_bytes / kBytes};
  return launch(thread_for_each("copy_rows", args.rows * args.width), stream, copy_rows<Unit>,
                static_cast<const Unit*>(c.from), args, static_cast<Unit*>(c.to));
}

}  // namespace

int launch_binary(const BinaryCall& c, void* stream) {
  return for_types(c.x.type, c.out.type, [&]<typename X, typename Out>(Types<X, Out>) {
    return for_type(c.y.type, [&]<typename Y>(Type<Y>) { return launch_binary_of<X, Y, Out>(c, as_stream(stream)); });
  });
}

int launch_activate(const ActivateCall& c, void* stream) {
  return for_types(c.x.type, c.out.type, [&]<typename In, typename Out>(Types<In, Out>) {
    return launch_map("activate", static_cast<const In*>(c.x.data), c.elements, Activate{c.activation},
                      static_cast<Out*>(c.out.data), as_stream(stream));
  });
}

int launch_finish_product(const FinishProductCall& c, void* stream) {
  const EpilogueCall& e = c.epilogue;
  const FinishArgs args{c.m * c.n, c.n, c.m / e.groups, e.bias, e.gate, e.residual.data, e.activation};
  return for_type(c.out.type, [&]<typename Out>(Type<Out>) {
    Out* out = static_cast<Out*>(c.out.data);
    const bool wide = c.n % 4 == 0 && hold_vectors(c.product, out, static_cast<const Out*>(e.residual.data));
    const auto kernel = wide ? finish_product<4, Out> : finish_product<1, Out>;
    return launch(thread_for_each("finish_product", args.elements / (wide ? 4 : 1)), as_stream(stream), kernel,
                  c.product, args, out);
  });
}

int launch_fill(const FillCall& c, void* stream) {
  return for_type(c.out.type, [&]<typename T>(Type<T>) {
    T* out = static_cast<T*>(c.out.data);
    const bool wide = c.elements % 4 == 0 && hold_vectors(out);
    const auto kernel = wide ? fill<4, T> : fill<1, T>;
    return launch(thread_for_each("fill", c.elements / (wide ? 4 : 1)), as_stream(stream), kernel, c.elements, c.value,
                  out);
  });
}

int launch_clamp(const ClampCall& c, void* stream) {
  return launch_map("clamp", c.x, c.elements, Clamp{c.low, c.high}, c.out, as_stream(stream));
}

int launch_rgb8(const Rgb8Call& c, void* stream) {
  return launch_map("rgb8", c.x, c.elements, Rgb8{}, c.out, as_stream(stream));
}

int launch_copy_rows(const CopyRowsCall& c, void* stream) {
  // A power of two divides all of these if it divides their union.
  const uint64_t all = reinterpret_cast<uintptr_t>(c.from) | reinterpret_cast<uintptr_t>(c.to) |
                       uint64_t(c.from_stride_bytes) | uint64_t(c.to_stride_bytes) | uint64_t(c.row_bytes);
  if (all % 16 == 0) return launch_copy_rows_of<Vec<uint32_t, 4>>(c, as_stream(stream));
  if (all % 8 == 0) return launch_copy_rows_of<uint64_t>(c, as_stream(stream));
  if (all % 4 == 0) return launch_copy_rows_of<uint32_t>(c, as_stream(stream));
  if (all % 2 == 0) return launch_copy_rows_of<uint16_t>(c, as_stream(stream));
  return launch_copy_rows_of<uint8_t>(c, as_stream(stream));
}

int launch_repeat_columns(const RepeatColumnsCall& c, void* stream) {
  const bool wide = c.width % 4 == 0 && hold_vectors(c.out);
  const auto kernel = wide ? repeat_columns<4> : repeat_columns<1>;
  return launch(thread_for_each("repeat_columns", c.rows * c.width / (wide ? 4 : 1)), as_stream(stream), kernel, c.x,
                c.rows, c.width, c.out);
}

int launch_relative_bias(const RelativeBiasCall& c, void* stream) {
  const bool wide = c.tokens % 4 == 0 && hold_vectors(c.out);
  const auto kernel = wide ? relative_bias<4> : relative_bias<1>;
  return launch(thread_for_each("relative_bias", c.heads * c.tokens * c.tokens / (wide ? 4 : 1)), as_stream(stream),
                kernel, c.line, c.heads, c.tokens, c.out);
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
