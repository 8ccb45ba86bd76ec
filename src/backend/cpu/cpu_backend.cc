#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/attention.h"
#include "backend/cpu/conv.h"
#include "backend/cpu/kernel_types.h"
#include "backend/cpu/linear.h"
#include "backend/cpu/make_cpu_backend.h"
#include "backend/cpu/pack.h"
#include "backend/reference/make_reference_backend.h"

namespace liveavatar::cpu {

CpuBackend::CpuBackend(IsaChoice isa, const BackendOptions& options, std::unique_ptr<Backend> plain)
    : isa_(std::move(isa)), context_(*isa_.kernels, options), plain_(std::move(plain)) {}

std::string CpuBackend::describe() const {
  return std::string(isa_.kernels->name) + " kernels (" + isa_.why + "), " + std::to_string(threads()) + " threads";
}

Status CpuBackend::reserve(const LargestOps& largest) {
  LA_RETURN_IF_ERROR(reserve_attention(context_, largest.attention));
  LA_RETURN_IF_ERROR(reserve_linear(context_, largest.linear_elements, largest.linear_k));
  for (const ConvSize& size : largest.convs) LA_RETURN_IF_ERROR(reserve_conv(context_, size));
  return {};
}

// The layout of pack.h: a change there is a new number here.
std::string CpuBackend::packing() const { return "cpu.1.panels" + std::to_string(isa_.kernels->columns); }

size_t CpuBackend::packed_linear_bytes(int64_t n, int64_t k, DType dtype) const {
  return linear_shape(n, k, dtype, isa_.kernels->columns).bytes();
}
void CpuBackend::pack_linear(const Tensor& weight, DType dtype, void* target) const {
  const PanelShape shape = linear_shape(weight.dim(0), weight.dim(1), dtype, isa_.kernels->columns);
  cpu::pack_linear(*isa_.kernels, context_.pool(), weight, shape, target);
}
void CpuBackend::pack_prequantised(const Tensor& quantised, std::span<const float> scales, void* target) const {
  const PanelShape shape = linear_shape(quantised.dim(0), quantised.dim(1), quantised.dtype, isa_.kernels->columns);
  cpu::pack_prequantised(context_.pool(), quantised, scales, shape, target);
}
size_t CpuBackend::packed_conv_bytes(const ConvWeight& shape) const {
  return panel_shape(shape, isa_.kernels->columns).bytes();
}
void CpuBackend::pack_conv(const Tensor& weight, const ConvWeight& shape, void* target) const {
  cpu::pack_conv(weight, panel_shape(shape, isa_.kernels->columns), target);
}

void CpuBackend::linear(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e) {
  run_linear(context_, product_of(x, w, *isa_.kernels, out, e));
}

void CpuBackend::conv(const Tensor& x, const ConvWeight& w, const ConvGeometry& g, const Tensor& out,
                      const Epilogue& e) {
  run_conv(context_, product_of(x, w, *isa_.kernels, out, e), w, g);
}

void CpuBackend::attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                           const Tensor& out) {
  run_attention(context_, q, segments, spec, out);
}

namespace {

// Rows in chunks of some thousand elements: large enough to be worth a hand-over. body(begin, end)
template <typename Body>
void each_chunk(ThreadPool& pool, int64_t rows, int64_t row_elements, Body&& body) {
  constexpr int64_t kChunkElements = 16384;
  pool.parallel_for(rows, std::max<int64_t>(1, kChunkElements / std::max<int64_t>(row_elements, 1)),
                    [&](int64_t begin, int64_t end, int) { body(begin, end); });
}

// body(row)
template <typename Body>
void each_row(ThreadPool& pool, int64_t rows, int64_t row_elements, Body&& body) {
  each_chunk(pool, rows, row_elements, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) body(r);
  });
}

Row row_of(const Tensor& t, int64_t r, int64_t width) {
  return {static_cast<const char*>(t.address()) + static_cast<size_t>(r * width) * dtype_bytes(t.dtype),
          type_of(t.dtype)};
}
void* out_row(const Tensor& t, int64_t r, int64_t width) { return const_cast<void*>(row_of(t, r, width).data); }
const float* group_row(const Tensor& t, int64_t r, int64_t rows) {
  return t.empty() ? nullptr : static_cast<const float*>(t.address()) + r / (rows / t.dim(0)) * t.dim(1);
}
const float* values(const Tensor& t) { return static_cast<const float*>(t.address()); }

}  // namespace

void CpuBackend::layer_norm(const Tensor& x, float eps, const Tensor& weight, const Tensor& bias, const Modulation& m,
                            const Tensor& out) {
  int64_t rows = x.dim(0);
  int64_t n = x.dim(1);
  each_row(context_.pool(), rows, n, [&](int64_t r) {
    isa_.kernels->layer_norm(row_of(x, r, n), n, eps, values(weight), values(bias), group_row(m.shift, r, rows),
                             group_row(m.scale, r, rows), out_row(out, r, n), type_of(out.dtype));
  });
}

void CpuBackend::rms_norm(const Tensor& x, float eps, const Tensor& gain, const Tensor& out) {
  int64_t n = x.dim(1);
  each_row(context_.pool(), x.dim(0), n, [&](int64_t r) {
    isa_.kernels->rms_norm(row_of(x, r, n), n, eps, gain.host<float>(), out_row(out, r, n), type_of(out.dtype));
  });
}

void CpuBackend::channel_norm(const Tensor& x, const Tensor& gain, liveavatar::Activation activation,
                              const Tensor& out) {
  int64_t n = x.dim(1);
  each_chunk(context_.pool(), x.dim(0), n, [&](int64_t begin, int64_t end) {
    isa_.kernels->channel_norm(row_of(x, begin, n), end - begin, n, gain.host<float>(), kernel_activation(activation),
                               out_row(out, begin, n), type_of(out.dtype));
  });
}

void CpuBackend::rope(const Tensor& x, const Tensor& cos_sin, int64_t heads, const Tensor& out) {
  int64_t n = x.dim(1);
  int64_t pairs = n / heads / 2;
  each_row(context_.pool(), x.dim(0), n, [&](int64_t r) {
    isa_.kernels->rope(row_of(x, r, n), cos_sin.host<float>() + r * pairs * 2, heads, pairs, out_row(out, r, n),
                       type_of(out.dtype));
  });
}

void CpuBackend::add(const Tensor& x, const Tensor& y, float y_factor, const Tensor& out) {
  int64_t n = x.dim(1);
  bool vector = y.elements() != x.elements();
  each_row(context_.pool(), x.dim(0), n, [&](int64_t r) {
    isa_.kernels->add(row_of(x, r, n), row_of(y, vector ? 0 : r, n), y_factor, n, out_row(out, r, n),
                      type_of(out.dtype));
  });
}

void CpuBackend::multiply(const Tensor& x, const Tensor& y, const Tensor& out) {
  int64_t n = x.dim(1);
  bool vector = y.elements() != x.elements();
  each_row(context_.pool(), x.dim(0), n, [&](int64_t r) {
    isa_.kernels->multiply(row_of(x, r, n), row_of(y, vector ? 0 : r, n), n, out_row(out, r, n), type_of(out.dtype));
  });
}

void CpuBackend::activate(const Tensor& x, liveavatar::Activation activation, const Tensor& out) {
  constexpr int64_t kChunk = 16384;
  int64_t n = x.elements();
  context_.pool().parallel_for(n, kChunk, [&](int64_t begin, int64_t end, int) {
    isa_.kernels->activate(row_of(x, begin, 1), end - begin, kernel_activation(activation), out_row(out, begin, 1),
                           type_of(out.dtype));
  });
}

void CpuBackend::copy(const Tensor& x, const Tensor& out) {
  if (x.dtype == out.dtype) {
    std::memmove(out.address(), x.address(), x.bytes());
    return;
  }
  activate(x, liveavatar::Activation::kNone, out);
}

}  // namespace liveavatar::cpu

namespace liveavatar {

Expected<std::unique_ptr<Backend>> make_cpu_backend(const BackendOptions& options) {
  LA_ASSIGN_OR_RETURN(cpu::IsaChoice isa, cpu::choose_isa(options.isa, options.int8_products));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> plain, make_reference_backend(options));
  return std::unique_ptr<Backend>(new cpu::CpuBackend(std::move(isa), options, std::move(plain)));
}

}  // namespace liveavatar
