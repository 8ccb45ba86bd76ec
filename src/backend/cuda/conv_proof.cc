#include "backend/cuda/conv_proof.h"

#include <cmath>

#include "backend/cuda/conv_by_library.h"
#include "backend/cuda/trial.h"
#include "backend/cuda/weights.h"

namespace liveavatar::cuda {
namespace {

constexpr ElementType kValues = ElementType::kBF16;

int64_t scale_of(const ConvClass& c) { return c.upsample2x ? 2 : 1; }
int64_t in_pixels(const ConvClass& c) { return c.rows / scale_of(c) * (c.columns / scale_of(c)); }  // of a frame
int64_t out_pixels(const ConvClass& c) { return c.frames * c.rows * c.columns; }
int64_t depth(const ConvClass& c) { return c.kernel[0] * c.kernel[1] * c.kernel[2] * c.in_channels; }  // products a sum

struct Operands {
  explicit Operands(const ConvClass& c)
      : x(layout.take(c.frames * in_pixels(c) * c.in_channels, kValues)),
        history(layout.take(c.past_frames() * in_pixels(c) * c.in_channels, kValues)),
        w(layout.take(c.out_channels * depth(c), kValues)),
        bias(layout.take(c.out_channels, ElementType::kF32)),
        out(layout.take(out_pixels(c) * c.out_channels, kValues)) {}
  OperandLayout layout;
  size_t x, history, w, bias, out;
};

// Products near 1.
Status write_operands(const ConvClass& c, const Operands& at, CudaDevice& device, std::byte* memory) {
  const int64_t frame = in_pixels(c) * c.in_channels;
  const float scale = 3 / std::sqrt(static_cast<float>(depth(c)));
  LA_RETURN_IF_ERROR(write_pattern(device, memory + at.x, c.frames * frame, kValues, 1, 1));
  LA_RETURN_IF_ERROR(write_pattern(device, memory + at.history, c.past_frames() * frame, kValues, 6, 1));
  LA_RETURN_IF_ERROR(write_pattern(device, memory + at.w, c.out_channels * depth(c), kValues, 2, scale));
  return write_pattern(device, memory + at.bias, c.out_channels, ElementType::kF32, 3, 1);
}

ConvCall call_of(const ConvClass& c, const Operands& at, std::byte* memory) {
  ConvCall call{};
  call.x = {memory + at.x, kValues};
  if (c.past_frames() > 0) call.history = {memory + at.history, kValues};
  call.history_frames = c.past_frames();
  call.frames = call.out_frames = c.frames;
  call.rows = c.rows / scale_of(c);
  call.columns = c.columns / scale_of(c);
  call.channels = c.in_channels;
  for (size_t i = 0; i < c.kernel.size(); ++i) {
    call.kernel[i] = c.kernel[i];
    call.stride[i] = 1;
  }
  call.pad_top = c.kernel[1] / 2;
  call.pad_left = c.kernel[2] / 2;
  call.upsample2x = c.upsample2x;
  call.out_rows = c.rows;
  call.out_columns = c.columns;
  call.groups = 1;
  call.w = packed_matrix(memory + at.w, DType::kBF16, c.out_channels, depth(c));
  call.epilogue.bias = reinterpret_cast<const float*>(memory + at.bias);
  call.epilogue.groups = 1;
  if (c.residual) call.epilogue.residual = {memory + at.out, kValues};
  call.out = {memory + at.out, kValues};
  call.large = has_large_blocks(call);
  return call;
}

}  // namespace

size_t proof_bytes(const ConvClass& c) { return Operands(c).layout.bytes(); }

LibraryChoice prove(const ConvClass& c, ConvLibrary& library, CudaDevice& device, void* stream, std::byte* memory,
                    std::byte* scratch) {
  const Operands at(c);
  const Status written = write_operands(c, at, device, memory);
  if (!written.ok()) return {describe(c), false, 0, 0, "not tried out: " + written.message()};
  const ConvCall call = call_of(c, at, memory);
  Trial trial{describe(c), call.out, out_pixels(c), c.out_channels, c.residual, {}, {}};
  trial.own = [&] {
    device.check(device.runtime().kernels().conv_bf16(call, stream), "conv");
    return device.status();
  };
  trial.by_library = [&] { return enqueue_by_library(library, c, call, scratch, device, stream); };
  return try_out(trial, device, stream);
}

}  // namespace liveavatar::cuda
