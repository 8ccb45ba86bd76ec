#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/make_cpu_backend.h"
#include "backend/reference/make_reference_backend.h"

namespace liveavatar::cpu {

CpuBackend::CpuBackend(IsaChoice isa, const BackendOptions& options, std::unique_ptr<Backend> plain)
    : isa_(std::move(isa)),
      kernels_(*isa_.kernels),
      int8_products_(kernels_.quantise_row && options.int8_products),
      pool_(options.threads),
      budget_(options.budget ? *options.budget : outside_),
      scratch_(pool_.threads()),
      plain_(std::move(plain)) {}

std::string CpuBackend::describe() const {
  return std::string(kernels_.name) + " kernels (" + isa_.why + "), " + std::to_string(pool_.threads()) + " threads";
}

// The layout of pack.h: a change there is a new number here.
std::string CpuBackend::packing() const { return "cpu.1.panels" + std::to_string(kernels_.columns); }

size_t CpuBackend::packed_linear_bytes(int64_t n, int64_t k, DType dtype) const {
  return PanelShape{kernels_.columns, dtype, 1, k, n, 1}.bytes();
}
void CpuBackend::pack_linear(const Tensor& weight, DType dtype, void* target) const {
  const PanelShape shape{kernels_.columns, dtype, 1, weight.dim(1), weight.dim(0), 1};
  pool_.parallel_for(shape.panels(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) pack_panel(kernels_, weight, shape, i, target);
  });
}
void CpuBackend::pack_codes(const Tensor& codes, std::span<const float> scales, void* target) const {
  const PanelShape shape{kernels_.columns, codes.dtype, 1, codes.dim(1), codes.dim(0), 1};
  pool_.parallel_for(shape.panels(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) pack_panel_codes(codes, scales, shape, i, target);
  });
}
size_t CpuBackend::packed_conv_bytes(const ConvWeight& shape) const {
  return panel_shape(shape, kernels_.columns).bytes();
}
void CpuBackend::pack_conv(const Tensor& weight, const ConvWeight& shape, void* target) const {
  cpu::pack_conv(weight, panel_shape(shape, kernels_.columns), target);
}

// Rows in chunks of some thousand elements: large enough to be worth a hand-over.
template <typename Body>
void CpuBackend::each_chunk(int64_t rows, int64_t row_elements, Body&& body) {
  constexpr int64_t kChunkElements = 16384;
  pool_.parallel_for(rows, std::max<int64_t>(1, kChunkElements / std::max<int64_t>(row_elements, 1)),
                     [&](int64_t begin, int64_t end, int) { body(begin, end); });
}

template <typename Body>
void CpuBackend::each_row(int64_t rows, int64_t row_elements, Body&& body) {
  each_chunk(rows, row_elements, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) body(r);
  });
}

namespace {

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
  int64_t rows = x.dim(0), n = x.dim(1);
  each_row(rows, n, [&](int64_t r) {
    kernels_.layer_norm(row_of(x, r, n), n, eps, values(weight), values(bias), group_row(m.shift, r, rows),
                        group_row(m.scale, r, rows), out_row(out, r, n), type_of(out.dtype));
  });
}

void CpuBackend::rms_norm(const Tensor& x, float eps, const Tensor& gain, const Tensor& out) {
  int64_t n = x.dim(1);
  each_row(x.dim(0), n, [&](int64_t r) {
    kernels_.rms_norm(row_of(x, r, n), n, eps, gain.host<float>(), out_row(out, r, n), type_of(out.dtype));
  });
}

void CpuBackend::channel_norm(const Tensor& x, const Tensor& gain, Activation activation, const Tensor& out) {
  int64_t n = x.dim(1);
  each_chunk(x.dim(0), n, [&](int64_t begin, int64_t end) {
    kernels_.channel_norm(row_of(x, begin, n), end - begin, n, gain.host<float>(), act_of(activation),
                          out_row(out, begin, n), type_of(out.dtype));
  });
}

void CpuBackend::rope(const Tensor& x, const Tensor& cos_sin, int64_t heads, const Tensor& out) {
  int64_t n = x.dim(1), pairs = n / heads / 2;
  each_row(x.dim(0), n, [&](int64_t r) {
    kernels_.rope(row_of(x, r, n), cos_sin.host<float>() + r * pairs * 2, heads, pairs, out_row(out, r, n),
                  type_of(out.dtype));
  });
}

void CpuBackend::add(const Tensor& x, const Tensor& y, float y_factor, const Tensor& out) {
  int64_t n = x.dim(1);
  bool vector = y.elements() != x.elements();
  each_row(x.dim(0), n, [&](int64_t r) {
    kernels_.add(row_of(x, r, n), row_of(y, vector ? 0 : r, n), y_factor, n, out_row(out, r, n), type_of(out.dtype));
  });
}

void CpuBackend::multiply(const Tensor& x, const Tensor& y, const Tensor& out) {
  int64_t n = x.dim(1);
  bool vector = y.elements() != x.elements();
  each_row(x.dim(0), n, [&](int64_t r) {
    kernels_.multiply(row_of(x, r, n), row_of(y, vector ? 0 : r, n), n, out_row(out, r, n), type_of(out.dtype));
  });
}

void CpuBackend::activate(const Tensor& x, Activation activation, const Tensor& out) {
  constexpr int64_t kChunk = 16384;
  int64_t n = x.elements();
  pool_.parallel_for(n, kChunk, [&](int64_t begin, int64_t end, int) {
    kernels_.activate(row_of(x, begin, 1), end - begin, act_of(activation), out_row(out, begin, 1), type_of(out.dtype));
  });
}

void CpuBackend::copy(const Tensor& x, const Tensor& out) {
  if (x.dtype == out.dtype) {
    std::memmove(out.address(), x.address(), x.bytes());
    return;
  }
  activate(x, Activation::kNone, out);
}

}  // namespace liveavatar::cpu

namespace liveavatar {

Expected<std::unique_ptr<Backend>> make_cpu_backend(const BackendOptions& options) {
  LA_ASSIGN_OR_RETURN(cpu::IsaChoice isa, cpu::choose_isa(options.isa));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> plain, make_reference_backend(options));
  return std::unique_ptr<Backend>(new cpu::CpuBackend(std::move(isa), options, std::move(plain)));
}

}  // namespace liveavatar
