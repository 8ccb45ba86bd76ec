#include "backend/cpu/small_output_conv.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/kernel_types.h"
#include "core/rounding.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kRowsAtOnce = 8;      // output lines of a job
constexpr int64_t kFewestPixels = 512;  // with fewer pixels, packing the weights costs too much

}  // namespace

SmallOutputStaging::SmallOutputStaging(const Staging& staging, const ConvSize& size, int64_t lanes_of_a_vector)
    : lanes(lanes_of_a_vector),
      n(size.out_channels),
      channels(n <= kSmallOutputFew ? kSmallOutputFew : static_cast<int>(round_up(n, lanes / 2))),
      items(staging.is_bf16 ? staging.k / 2 : staging.k),
      lines(staging.lines()),
      kernel_columns(staging.kernel[2]),
      tile_pixels(kSmallOutputVectors * lanes * std::max<int64_t>(1, lanes / 2 / channels)) {
  int64_t fitting = kStageBytes / (lines * items * static_cast<int64_t>(sizeof(float)));
  segment = std::min(size.columns, std::max<int64_t>(fitting / tile_pixels, 1) * tile_pixels);
  pitch = round_up(round_up(segment, lanes) + kernel_columns - 1, lanes);
}

ScratchSizes SmallOutputStaging::scratch() const {
  ScratchSizes s;
  s.want(ScratchBuffer::kPointers, pitch, sizeof(void*));
  s.want(ScratchBuffer::kMorePointers, lines, sizeof(void*));
  s.want(ScratchBuffer::kRowCopies, (pitch + 1) * items, sizeof(float));
  s.want(ScratchBuffer::kStage, lines * line_items(), sizeof(float));
  s.want(ScratchBuffer::kAcc, tile_pixels * n + lanes, sizeof(float));
  s.want(ScratchBuffer::kSmallOutputWeights, weight_count(), sizeof(float));
  s.want(ScratchBuffer::kSmallOutputBias, tile_pixels * n, sizeof(float));
  return s;
}

bool SmallOutputConvolution::fits(const Kernels& kernels, const ConvSize& size) {
  int64_t half = kernels.lanes / 2;
  bool few = size.out_channels <= half || size.out_channels == 2 * half;
  return size.column_stride == 1 && few && size.columns >= kernels.lanes;
}

bool SmallOutputConvolution::fits(const Kernels& kernels, const ConvCall& c) {
  const Product& p = c.product;
  bool plain = p.shape.groups == 1 && c.geometry.stride[1] == 1;
  bool whole = !c.is_bf16 || p.shape.k % 2 == 0;  // every channel has its pair
  return fits(kernels, c.size) && plain && whole && p.epilogue->gate.empty() && p.rows >= kFewestPixels;
}

SmallOutputConvolution::SmallOutputConvolution(CpuContext& context, const ConvCall& call)
    : context_(context),
      kernels_(context.kernels()),
      c_(call),
      s_(call, call.size, context.kernels().lanes),
      widen_(!call.is_bf16 && call.product.x->dtype == DType::kBF16) {}

// [tap][items][channels] from the panel.
void SmallOutputConvolution::set_weights() {
  const PanelShape& shape = c_.product.shape;
  bool pairs = shape.dtype == DType::kBF16;
  bool split = pairs && !c_.is_bf16;  // an item is one channel of a pair
  int64_t panel_items = split ? ceil_div(s_.items, 2) : s_.items;
  const float* panel = static_cast<const float*>(c_.product.panel(0));
  float* to = context_.common_scratch().at<float>(ScratchBuffer::kSmallOutputWeights, s_.weight_count());
  weights_ = to;
  std::fill_n(to, s_.weight_count(), 0.0f);
  for (int64_t tap = 0; tap < shape.taps; ++tap) {
    for (int64_t i = 0; i < s_.items; ++i, to += s_.channels) {
      int64_t item = tap * panel_items + (split ? i / 2 : i);
      const float* from = panel + item * shape.columns;
      if (!split) {
        std::memcpy(to, from, static_cast<size_t>(shape.n) * sizeof(float));
        continue;
      }
      const bf16* both = reinterpret_cast<const bf16*>(from);
      for (int64_t o = 0; o < shape.n; ++o) to[o] = to_f32(both[2 * o + i % 2]);
    }
  }
}

// Once for every pixel of a tile.
void SmallOutputConvolution::set_bias() {
  if (c_.product.bias == nullptr) return;
  float* to = context_.common_scratch().at<float>(ScratchBuffer::kSmallOutputBias, s_.tile_pixels * s_.n);
  bias_ = to;
  for (int64_t pixel = 0; pixel < s_.tile_pixels; ++pixel) to = std::copy_n(c_.product.bias, s_.n, to);
}

// Pointers to the existing input pixels [first, first + pitch) of a line, converted to f32 if necessary.
void SmallOutputConvolution::point_to_pixels(const char* line, int64_t first, std::byte* copies,
                                             const void** pointers) const {
  int64_t up = c_.geometry.upsample2x ? 1 : 0;
  int64_t width = c_.product.x->dim(2) << up;
  int64_t begin = std::clamp<int64_t>(-first, 0, s_.pitch);
  int64_t end = std::clamp(width - first, begin, s_.pitch);
  if (end == begin) return;
  int64_t source = (first + begin) >> up;
  int64_t count = ((first + end - 1) >> up) - source + 1;
  size_t pixel_bytes = c_.pixel_bytes();
  const char* there = line + static_cast<size_t>(source) * (widen_ ? pixel_bytes / 2 : pixel_bytes);
  const std::byte* pixels = reinterpret_cast<const std::byte*>(there);
  if (widen_) {
    kernels_.widen(there, count * c_.k, reinterpret_cast<float*>(copies));
    pixels = copies;
  }
  if (up == 0) {
    for (int64_t i = begin; i < end; ++i, pixels += pixel_bytes) pointers[i] = pixels;
  } else {
    for (int64_t i = begin; i < end; ++i)
      pointers[i] = pixels + static_cast<size_t>(((first + i) >> 1) - source) * pixel_bytes;
  }
}

// Input pixels [first, first + pitch) of a line (null: zeros) -> the stage's line `slot`.
void SmallOutputConvolution::stage_pixels(const char* line, int64_t first, int64_t slot, ThreadScratch& scratch) const {
  std::byte* zeros = scratch.at<std::byte>(ScratchBuffer::kRowCopies, (s_.pitch + 1) * s_.items * 4);
  std::memset(zeros, 0, c_.pixel_bytes());
  const void** pointers = scratch.at<const void*>(ScratchBuffer::kPointers, s_.pitch);
  std::fill_n(pointers, s_.pitch, zeros);
  if (line != nullptr) point_to_pixels(line, first, zeros + c_.pixel_bytes(), pointers);
  float* target = scratch.at<float>(ScratchBuffer::kStage, (slot + 1) * s_.line_items()) + slot * s_.line_items();
  kernels_.transpose(pointers, static_cast<int>(s_.pitch), s_.items, target, s_.pitch);
}

// Stores a tile to out from `element` on. Its pixels are contiguous: they are one row.
void SmallOutputConvolution::store(int64_t element, const SmallOutputArgs& tile) const {
  const Product& p = c_.product;
  const Tensor& residual = p.epilogue->residual;
  StoreArgs store;
  store.acc = tile.acc;
  store.rows = 1;
  store.columns = tile.pixels * tile.n;
  store.bias = bias_;
  store.activation = kernel_activation(p.epilogue->activation);
  if (!residual.empty()) {
    store.residual =
        static_cast<const char*>(residual.address()) + static_cast<size_t>(element) * dtype_bytes(residual.dtype);
    store.residual_type = type_of(residual.dtype);
  }
  store.out = static_cast<char*>(p.out->address()) + static_cast<size_t>(element) * dtype_bytes(p.out->dtype);
  store.out_type = type_of(p.out->dtype);
  kernels_.store(store);
}

// One output line from staged input lines, `segment` pixels from `column`.
void SmallOutputConvolution::run_line(int64_t line, int64_t column, ThreadScratch& scratch) const {
  int64_t width = c_.product.out->dim(2);
  SmallOutputArgs args;
  args.lines = scratch.at<const float*>(ScratchBuffer::kMorePointers, c_.lines());
  args.line_count = c_.lines();
  args.columns = c_.kernel[2];
  args.items = s_.items;
  args.pitch = s_.pitch;
  args.weights = weights_;
  args.channels = s_.channels;
  args.n = static_cast<int>(s_.n);
  args.acc = scratch.at<float>(ScratchBuffer::kAcc, s_.tile_pixels * s_.n + s_.lanes);
  int64_t end = std::min(column + s_.segment, width);
  for (int64_t at = column; at < end; at += s_.tile_pixels) {
    args.first = at - column;
    args.pixels = static_cast<int>(std::min(s_.tile_pixels, end - at));
    kernels_.small_output[c_.is_bf16](args);
    store((line * width + at) * s_.n, args);
  }
}

// An input row stays staged while output rows need it.
void SmallOutputConvolution::run_area(const Area& area, ThreadScratch& scratch) const {
  const ConvGeometry& g = c_.geometry;
  int64_t height = c_.product.out->dim(1);
  int64_t kernel_rows = c_.kernel[1];
  int64_t front = area.line / height * g.stride[0] - g.zero_frames;
  const float* stage = scratch.at<float>(ScratchBuffer::kStage, c_.lines() * s_.line_items());
  const float** staged_lines = scratch.at<const float*>(ScratchBuffer::kMorePointers, c_.lines());
  for (int64_t line = area.line; line < area.line + area.rows; ++line) {
    int64_t row = line % height;
    int64_t staged = line == area.line ? 0 : kernel_rows - 1;  // kernel rows whose input is already staged
    for (int64_t i = 0; i < c_.lines(); ++i) {
      int64_t frame = i / kernel_rows;
      int64_t at = i % kernel_rows;
      int64_t slot = frame * kernel_rows + (row + at) % kernel_rows;
      if (at >= staged) {
        const char* source = c_.source_line(front + frame, row - g.pad_top + at);
        stage_pixels(source, area.column - g.pad_left, slot, scratch);
      }
      staged_lines[i] = stage + slot * s_.line_items();
    }
    run_line(line, area.column, scratch);
  }
}

void SmallOutputConvolution::run() {
  const Tensor& out = *c_.product.out;
  int64_t frames = out.dim(0);
  int64_t height = out.dim(1);
  context_.begin(s_.scratch());
  set_weights();
  set_bias();
  int64_t across = ceil_div(out.dim(2), s_.segment);  // areas of a frame, horizontally
  int64_t jobs_wanted = context_.threads() * kJobsPerThread;
  int64_t rows = frames * height * across / jobs_wanted;
  rows = std::clamp<int64_t>(rows, 1, std::min(kRowsAtOnce, height));
  int64_t down = ceil_div(height, rows);  // areas of a frame, vertically
  context_.pool().parallel_for(frames * down * across, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t job = begin; job < end; ++job) {
      int64_t frame = job / across / down;
      int64_t row = job / across % down * rows;
      Area area;
      area.line = frame * height + row;
      area.rows = std::min(rows, height - row);
      area.column = job % across * s_.segment;
      run_area(area, context_.scratch(thread));
    }
  });
}

}  // namespace liveavatar::cpu
