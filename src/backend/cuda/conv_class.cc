#include "backend/cuda/conv_class.h"

#include "backend/cuda/linear_class.h"

namespace liveavatar::cuda {
namespace {

constexpr int64_t kAlignment = 16;  // bytes
constexpr int64_t kChannelStep = kAlignment / 2;

bool is_bf16(ElementType type) { return type == ElementType::kBF16; }
bool is_aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % kAlignment == 0; }

std::string product(std::initializer_list<int64_t> factors) {
  std::string text;
  for (int64_t factor : factors) text += (text.empty() ? "" : " x ") + std::to_string(factor);
  return text;
}

// Whole vectors of channels, so that packed weights have no padding; parts of equally many frames.
std::optional<ConvClass> if_supported(const ConvClass& c) {
  const bool has_vectors = c.in_channels % kChannelStep == 0 && c.out_channels % kChannelStep == 0;
  const bool keeps_size = c.kernel[1] % 2 == 1 && c.kernel[2] % 2 == 1;
  const bool has_parts = c.frames % c.part_frames() == 0;
  const bool fits = !c.upsample2x || c.kernel[0] == 1;
  if (!has_vectors || !keeps_size || !has_parts || !fits) return {};
  return c;
}

bool has_supported_window(const ConvCall& c) {
  const int64_t size = c.upsample2x ? 2 : 1;
  const bool is_dense = c.groups == 1 && c.stride[0] == 1 && c.stride[1] == 1 && c.stride[2] == 1;
  const bool is_causal = c.zero_frames == 0 && c.history_frames == c.kernel[0] - 1 && c.out_frames == c.frames;
  const bool is_centred = c.pad_top == c.kernel[1] / 2 && c.pad_left == c.kernel[2] / 2 &&
                          c.out_rows == size * c.rows && c.out_columns == size * c.columns;
  return is_dense && is_causal && is_centred;
}

bool has_supported_operands(const ConvCall& c) {
  const EpilogueCall& e = c.epilogue;
  const bool are_bf16 = is_bf16(c.x.type) && is_bf16(c.w.type) && is_bf16(c.out.type) &&
                        (c.history.data == nullptr || is_bf16(c.history.type));
  const bool is_in_place = e.residual.data == nullptr || (e.residual.data == c.out.data && is_bf16(e.residual.type));
  if (!are_bf16 || !is_in_place || e.bias == nullptr || e.activation != Activation::kNone) return false;
  for (const void* data : {c.x.data, c.history.data, c.w.data, static_cast<const void*>(c.out.data)})
    if (!is_aligned(data)) return false;
  return true;
}

}  // namespace

std::optional<ConvClass> library_class(const VideoConvSize& s) {
  if (s.x != DType::kBF16 || s.weights != DType::kBF16 || s.out != DType::kBF16) return {};
  return if_supported({s.frames, s.rows, s.columns, s.in_channels, s.out_channels, s.kernel, s.upsample2x, s.residual});
}

std::optional<ConvClass> library_class(const ConvCall& c) {
  if (!has_supported_window(c) || !has_supported_operands(c)) return {};
  return if_supported({c.out_frames,
                       c.out_rows,
                       c.out_columns,
                       c.channels,
                       c.w.n,
                       {c.kernel[0], c.kernel[1], c.kernel[2]},
                       c.upsample2x,
                       c.epilogue.residual.data != nullptr});
}

std::string describe(const ConvClass& c) {
  return "conv " + product({c.frames, c.rows, c.columns}) + ", " + std::to_string(c.in_channels) + " -> " +
         std::to_string(c.out_channels) + ", " + product({c.kernel[0], c.kernel[1], c.kernel[2]}) +
         (c.upsample2x ? ", upsample" : "") + (c.residual ? ", residual" : "");
}

bool has_large_blocks(const ConvCall& c) {
  return c.out_frames * c.out_rows * c.out_columns >= kLargeBlock && c.w.n / c.groups > kLargeBlock / 2;
}

}  // namespace liveavatar::cuda
