// Ops whose kernels read and write memory about as fast as it is, and multiply little.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/weights.h"

namespace liveavatar::cuda {
namespace {

constexpr float kNoEps = 0.0f;

std::byte* element(const StridedRows& rows) {
  return static_cast<std::byte*>(rows.tensor.address()) +
         static_cast<size_t>(rows.first) * dtype_bytes(rows.tensor.dtype);
}

PatchCall patch_call(const Tensor& video, const std::array<int64_t, 3>& patch) {
  PatchCall call{};
  call.channels = video.dim(0);
  call.frames = video.dim(1);
  call.rows = video.dim(2);
  call.columns = video.dim(3);
  call.pf = patch[0];
  call.ph = patch[1];
  call.pw = patch[2];
  return call;
}

}  // namespace

Input input(const Tensor& t) { return t.empty() ? Input() : Input{t.address(), element_type(t.dtype)}; }
Output output(const Tensor& t) { return {t.address(), element_type(t.dtype)}; }
const float* floats(const Tensor& t) { return static_cast<const float*>(t.address()); }

Activation activation_of(liveavatar::Activation activation) {
  switch (activation) {
    case liveavatar::Activation::kNone:
      return Activation::kNone;
    case liveavatar::Activation::kGeluTanh:
      return Activation::kGeluTanh;
    case liveavatar::Activation::kGeluErf:
      return Activation::kGeluErf;
    case liveavatar::Activation::kSilu:
      return Activation::kSilu;
    case liveavatar::Activation::kRelu:
      return Activation::kRelu;
  }
  return Activation::kNone;
}

void CudaBackend::layer_norm(const Tensor& x, float eps, const Tensor& weight, const Tensor& bias, const Modulation& m,
                             const Tensor& out) {
  const int64_t groups = m.scale.empty() ? 1 : m.scale.dim(0);
  run(&Kernels::layer_norm,
      LayerNormCall{input(x), floats(weight), floats(bias), floats(m.scale), floats(m.shift), x.dim(0), x.dim(1),
                    groups, eps, output(out)},
      "layer_norm");
}

void CudaBackend::rms_norm(const Tensor& x, float eps, const Tensor& gain, const Tensor& out) {
  run(&Kernels::rms_norm,
      RmsNormCall{input(x), floats(gain), x.dim(0), x.dim(1), false, eps, Activation::kNone, output(out)}, "rms_norm");
}

void CudaBackend::channel_norm(const Tensor& x, const Tensor& gain, liveavatar::Activation activation,
                               const Tensor& out) {
  run(&Kernels::rms_norm,
      RmsNormCall{input(x), floats(gain), x.dim(0), x.dim(1), true, kNoEps, activation_of(activation), output(out)},
      "channel_norm");
}

void CudaBackend::rope(const Tensor& x, const Tensor& cos_sin, int64_t heads, const Tensor& out) {
  const int64_t pairs = x.dim(1) / heads / 2;
  run(&Kernels::rope, RopeCall{input(x), floats(cos_sin), x.dim(0), heads, pairs, output(out)}, "rope");
}

void CudaBackend::patchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) {
  PatchCall call = patch_call(x, patch);
  call.from = input(x);
  call.to = output(out);
  call.to_tokens = true;
  run(&Kernels::patch, call, "patchify");
}

void CudaBackend::unpatchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) {
  PatchCall call = patch_call(out, patch);
  call.from = input(x);
  call.to = output(out);
  call.to_tokens = false;
  run(&Kernels::patch, call, "unpatchify");
}

void CudaBackend::run_transpose(const Tensor& x, const Modulation& m, bool channels_last, const Tensor& out) {
  const int64_t channels = channels_last ? x.dim(0) : x.dim(3);
  run(&Kernels::transpose,
      TransposeCall{input(x), floats(m.scale), floats(m.shift), channels, x.elements() / channels, channels_last,
                    output(out)},
      channels_last ? "channels_last" : "channels_first");
}

void CudaBackend::channels_last(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) {
  run_transpose(x, {.shift = shift, .scale = scale}, true, out);
}
void CudaBackend::channels_first(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) {
  run_transpose(x, {.shift = shift, .scale = scale}, false, out);
}

void CudaBackend::add(const Tensor& x, const Tensor& y, float y_factor, const Tensor& out) {
  run(&Kernels::binary, BinaryCall{input(x), input(y), x.elements(), y.elements(), false, y_factor, output(out)},
      "add");
}
void CudaBackend::multiply(const Tensor& x, const Tensor& y, const Tensor& out) {
  run(&Kernels::binary, BinaryCall{input(x), input(y), x.elements(), y.elements(), true, 1.0f, output(out)},
      "multiply");
}

void CudaBackend::activate(const Tensor& x, liveavatar::Activation activation, const Tensor& out) {
  run(&Kernels::activate, ActivateCall{input(x), x.elements(), activation_of(activation), output(out)}, "activate");
}
void CudaBackend::copy(const Tensor& x, const Tensor& out) {
  run(&Kernels::activate, ActivateCall{input(x), x.elements(), Activation::kNone, output(out)}, "copy");
}

void CudaBackend::copy_rows(const StridedRows& x, const StridedRows& out, int64_t rows, int64_t columns) {
  const auto item = static_cast<int64_t>(dtype_bytes(x.tensor.dtype));
  run(&Kernels::copy_rows,
      CopyRowsCall{element(x), element(out), x.stride * item, out.stride * item, rows, columns * item}, "copy_rows");
}

void CudaBackend::fill(const Tensor& out, float value) {
  run(&Kernels::fill, FillCall{output(out), out.elements(), value}, "fill");
}

void CudaBackend::clamp(const Tensor& x, float low, float high, const Tensor& out) {
  run(&Kernels::clamp, ClampCall{floats(x), x.elements(), low, high, static_cast<float*>(out.address())}, "clamp");
}

void CudaBackend::to_rgb8(const Tensor& x, const Tensor& out) {
  run(&Kernels::rgb8, Rgb8Call{floats(x), x.elements(), static_cast<uint8_t*>(out.address())}, "to_rgb8");
}

void CudaBackend::repeat_columns(const Tensor& x, const Tensor& out) {
  run(&Kernels::repeat_columns,
      RepeatColumnsCall{floats(x), out.dim(0), out.dim(1), static_cast<float*>(out.address())}, "repeat_columns");
}

void CudaBackend::relative_bias(const Tensor& line, const Tensor& out) {
  run(&Kernels::relative_bias,
      RelativeBiasCall{floats(line), out.dim(0), out.dim(1), static_cast<float*>(out.address())}, "relative_bias");
}

void CudaBackend::quantise(const Tensor& x, const Tensor& out, const Tensor& scale) {
  const int64_t heads = scale.dim(1);
  run(&Kernels::quantise,
      QuantiseCall{input(x), x.dim(0), heads, x.dim(1) / heads, output(out), static_cast<float*>(scale.address())},
      "quantise");
}

void CudaBackend::dequantise(const Tensor& x, const Tensor& scale, const Tensor& out) {
  const int64_t heads = scale.dim(1);
  run(&Kernels::dequantise, DequantiseCall{input(x), floats(scale), x.dim(0), heads, x.dim(1) / heads, output(out)},
      "dequantise");
}

}  // namespace liveavatar::cuda
