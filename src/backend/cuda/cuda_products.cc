// Products, and which kernel computes them: on tensor cores but for weights in f32, in 8 bits or in bf16.
#include <cmath>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/weights.h"
#include "core/quantise.h"

namespace liveavatar::cuda {
namespace {

EpilogueCall epilogue(const Tensor& bias, const Epilogue& e) {
  const int64_t groups = e.gate.empty() ? 1 : e.gate.dim(0);
  return {floats(bias), floats(e.gate), groups, input(e.residual), activation_of(e.activation)};
}

AttentionCall::Segment segment(const KeyValues& kv) {
  return {input(kv.k), input(kv.v), floats(kv.k_scale), floats(kv.v_scale), kv.k.dim(0)};
}

constexpr int kLeastE4m3Capability = 89;  // older tensor cores have no e4m3

bool is_bf16(const Tensor& t) { return t.dtype == DType::kBF16; }

bool is_at_most_bf16(const Tensor& t) { return is_bf16(t) || is_8bit(t.dtype); }

// What attention_bf16 can: 8 values of a head at a time.
bool fits_tensor_cores(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                       const Tensor& out) {
  constexpr int64_t kMostHead = 128, kHeadStep = 8;
  const int64_t head = q.dim(1) / spec.heads;
  bool fits = is_bf16(q) && is_bf16(out) && spec.bias.empty() && head <= kMostHead && head % kHeadStep == 0;
  for (const KeyValues& s : segments) fits = fits && is_at_most_bf16(s.k) && is_at_most_bf16(s.v);
  return fits;
}

}  // namespace

bool CudaBackend::multiplies_8bit(DType weights) const {
  const bool has_e4m3 = device_.runtime().card().compute_capability >= kLeastE4m3Capability;
  return int8_products_ && (weights == DType::kI8 || (weights == DType::kF8E4M3 && has_e4m3));
}

// x is quantised row by row, as many rows at a time as there is memory for.
void CudaBackend::linear_8bit(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e) {
  LA_CHECK(w.k <= kMostExactK);
  const Tensor rows = x.rows();
  Linear8bitCall call{};
  call.w = packed_matrix(w);
  call.m = rows.dim(0);
  call.epilogue = epilogue(w.bias, e);
  call.out = output(out);
  while (call.first_row < call.m) {
    const QuantisedRows::Part part = quantised_rows_.take(call.m - call.first_row, call.w.row_bytes);
    call.x = part.values;
    call.x_scale = part.scales;
    call.rows = part.rows;
    call.large = has_large_blocks(call.rows, w.n);
    const Input from = input(rows.slice(call.first_row, call.rows));
    run(&Kernels::quantise,
        QuantiseCall{from, call.rows, 1, w.k, {part.values, call.w.type}, part.scales, call.w.row_bytes - w.k},
        "quantise");
    run(&Kernels::linear_8bit, call, "linear");
    call.first_row += call.rows;
  }
}

void CudaBackend::linear(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e) {
  if (multiplies_8bit(w.dtype)) return linear_8bit(x, w, out, e);
  LinearCall call{input(x), packed_matrix(w), x.rows().dim(0), epilogue(w.bias, e), output(out)};
  call.large = has_large_blocks(call.m, w.n);
  const bool by_library = linears_.enqueue(call, stream_.get());
  if (by_library) return;
  run(w.dtype == DType::kF32 ? &Kernels::linear_f32 : &Kernels::linear_bf16, call, "linear");
}

void CudaBackend::conv(const Tensor& x, const ConvWeight& w, const ConvGeometry& g, const Tensor& out,
                       const Epilogue& e) {
  ConvCall call{};
  call.x = input(x);
  call.history = input(g.history);
  call.history_frames = g.history.empty() ? 0 : g.history.dim(0);
  call.zero_frames = g.zero_frames;
  call.frames = x.dim(0);
  call.rows = x.dim(1);
  call.columns = x.dim(2);
  call.channels = x.dim(3);
  for (size_t i = 0; i < w.kernel.size(); ++i) {
    call.kernel[i] = w.kernel[i];
    call.stride[i] = g.stride[i];
  }
  call.pad_top = g.pad_top;
  call.pad_left = g.pad_left;
  call.upsample2x = g.upsample2x;
  call.out_frames = out.dim(0);
  call.out_rows = out.dim(1);
  call.out_columns = out.dim(2);
  call.groups = w.groups;
  call.w = packed_matrix(w);
  call.epilogue = epilogue(w.bias, e);
  call.out = output(out);
  call.large = has_large_blocks(call);
  const bool by_library = convs_.enqueue(call, stream_.get());
  if (by_library) return;
  run(w.dtype == DType::kF32 ? &Kernels::conv_f32 : &Kernels::conv_bf16, call, "conv");
}

void CudaBackend::attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                            const Tensor& out) {
  LA_CHECK(segments.size() <= kMaxSegments);
  AttentionCall call{};
  call.q = input(q);
  for (const KeyValues& s : segments) {
    call.segments[call.segment_count] = segment(s);
    ++call.segment_count;
  }
  call.queries = q.dim(0);
  call.heads = spec.heads;
  call.head = q.dim(1) / spec.heads;
  call.bias = floats(spec.bias);
  call.scale = spec.scale;
  call.out = output(out);
  if (fits_tensor_cores(q, segments, spec, out)) {
    run(&Kernels::attention_bf16, call, "attention");
  } else {
    run(&Kernels::attention_f32, call, "attention");
  }
}

}  // namespace liveavatar::cuda
