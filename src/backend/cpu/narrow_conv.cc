// Convolution with few output channels, as at the end of a decoder. Rows of pixels times a panel would leave most lanes
// empty, or too few sums to hide a multiply-add's latency; so pixels lie in the lanes, and a weight goes to all of
// them. Input lines are staged item by item (an item: one channel in f32, or a pair in bf16), each once for all output
// lines of a piece of work that see it. Sums add up in the same order as the tiles' do.
#include <algorithm>
#include <cstring>

#include "backend/cpu/conv.h"
#include "core/rounding.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kRowsAtOnce = 8;      // output lines of a piece of work
constexpr int64_t kFewestPixels = 512;  // below, laying out the weights costs too much

}  // namespace

NarrowStaging::NarrowStaging(const Staging& staging, const ConvSize& size, int64_t lanes_of_a_vector)
    : lanes(lanes_of_a_vector),
      n(size.out_channels),
      channels(n <= kNarrowFew ? kNarrowFew : static_cast<int>(round_up(n, lanes / 2))),
      items(staging.half ? staging.k / 2 : staging.k),
      lines(staging.lines()),
      kernel_columns(staging.kernel[2]),
      tile_pixels(kNarrowVectors * lanes * std::max<int64_t>(1, lanes / 2 / channels)) {
  int64_t fitting = kStageBytes / (lines * items * static_cast<int64_t>(sizeof(float)));
  stretch = std::min(size.columns, std::max<int64_t>(fitting / tile_pixels, 1) * tile_pixels);
  pitch = round_up(round_up(stretch, lanes) + kernel_columns - 1, lanes);
}

ScratchSizes NarrowStaging::scratch() const {
  ScratchSizes s;
  s.want(Piece::kPointers, pitch, sizeof(void*));
  s.want(Piece::kMorePointers, lines, sizeof(void*));
  s.want(Piece::kRowCopies, (pitch + 1) * items, sizeof(float));
  s.want(Piece::kStage, lines * line_items(), sizeof(float));
  s.want(Piece::kSums, tile_pixels * n + lanes, sizeof(float));
  s.want(Piece::kNarrowWeights, weight_count(), sizeof(float));
  s.want(Piece::kNarrowBias, tile_pixels * n, sizeof(float));
  return s;
}

struct CpuBackend::NarrowConvolution : NarrowStaging {
  const Convolution& c;
  bool widen = false;  // pixels are bf16 and staged as f32
  const float* weights = nullptr;
  const float* bias = nullptr;  // of a tile's pixels
};

bool CpuBackend::may_be_narrow(const ConvSize& size) const {
  int64_t half = kernels_.lanes / 2, n = size.out_channels;
  return size.column_stride == 1 && (n <= half || n == 2 * half) && size.columns >= kernels_.lanes;
}

bool CpuBackend::is_narrow(const Convolution& c) const {
  const Product& p = c.product;
  bool plain = p.shape.groups == 1 && c.geometry.stride[1] == 1;
  bool whole = !c.half || p.shape.k % 2 == 0;  // no channel without its pair
  return may_be_narrow(c.size) && plain && whole && p.epilogue->gate.empty() && p.rows >= kFewestPixels;
}

// [tap][items][channels] from the panel, and the bias once for every pixel of a tile.
void CpuBackend::set_narrow_weights(NarrowConvolution& n) {
  const Convolution& c = n.c;
  const PanelShape& s = c.product.shape;
  int64_t items = n.items, columns = s.columns;
  bool pairs = s.dtype == DType::kBF16, split = pairs && !c.half;
  const float* panel = static_cast<const float*>(c.product.panel(0));
  int64_t count = n.weight_count();
  float* to = scratch_.common().at<float>(Piece::kNarrowWeights, count);
  n.weights = to;
  std::fill_n(to, count, 0.0f);
  for (int64_t tap = 0; tap < s.taps; ++tap) {
    for (int64_t i = 0; i < items; ++i, to += n.channels) {
      const float* from = panel + (split ? tap * ((items + 1) / 2) + i / 2 : tap * items + i) * columns;
      if (!split) {
        std::memcpy(to, from, static_cast<size_t>(s.n) * sizeof(float));
        continue;
      }
      const bf16* both = reinterpret_cast<const bf16*>(from);
      for (int64_t o = 0; o < s.n; ++o) to[o] = to_f32(both[2 * o + i % 2]);
    }
  }
  if (c.product.bias == nullptr) return;
  float* bias = scratch_.common().at<float>(Piece::kNarrowBias, n.tile_pixels * s.n);
  n.bias = bias;
  for (int64_t pixel = 0; pixel < n.tile_pixels; ++pixel) bias = std::copy_n(c.product.bias, s.n, bias);
}

// Input pixels [first, first + pitch) of a line (null: zeros) -> the stage's line `slot`.
void CpuBackend::stage_pixels(const NarrowConvolution& n, const char* line, int64_t first, int64_t slot,
                              ThreadScratch& scratch) {
  const Convolution& c = n.c;
  const Tensor& x = *c.product.x;
  int64_t up = c.geometry.upsample2x ? 1 : 0, width = x.dim(2) << up, pitch = n.pitch;
  int64_t begin = std::clamp<int64_t>(-first, 0, pitch), end = std::clamp(width - first, begin, pitch);
  if (line == nullptr) begin = end = 0;
  std::byte* zeros = scratch.at<std::byte>(Piece::kRowCopies, (pitch + 1) * n.items * 4);
  std::memset(zeros, 0, c.pixel_bytes());
  const void** pointers = scratch.at<const void*>(Piece::kPointers, pitch);
  std::fill_n(pointers, pitch, zeros);
  if (end > begin) {
    int64_t source = (first + begin) >> up, count = ((first + end - 1) >> up) - source + 1;
    const char* there = line + static_cast<size_t>(source) * c.pixel_bytes() / (n.widen ? 2 : 1);
    const std::byte* pixels = reinterpret_cast<const std::byte*>(there);
    if (n.widen) {
      std::byte* copies = zeros + c.pixel_bytes();
      kernels_.widen(there, count * c.k, reinterpret_cast<float*>(copies));
      pixels = copies;
    }
    size_t a_pixel = c.pixel_bytes();
    for (int64_t i = begin; up == 0 && i < end; ++i, pixels += a_pixel) pointers[i] = pixels;
    for (int64_t i = begin; up == 1 && i < end; ++i)
      pointers[i] = pixels + static_cast<size_t>(((first + i) >> 1) - source) * a_pixel;
  }
  float* target = scratch.at<float>(Piece::kStage, (slot + 1) * n.line_items()) + slot * n.line_items();
  kernels_.transpose(pointers, static_cast<int>(pitch), n.items, target, pitch);
}

// One output line from staged input lines, n.stretch pixels from `column`.
void CpuBackend::narrow_line(const NarrowConvolution& n, int64_t line, int64_t column, ThreadScratch& scratch) {
  const Convolution& c = n.c;
  const Product& p = c.product;
  const Tensor& residual = p.epilogue->residual;
  NarrowArgs args;
  args.lines = scratch.at<const float*>(Piece::kMorePointers, c.lines());
  args.line_count = c.lines();
  args.columns = c.kernel[2];
  args.items = n.items;
  args.pitch = n.pitch;
  args.weights = n.weights;
  args.channels = n.channels;
  args.n = static_cast<int>(n.n);
  args.sums = scratch.at<float>(Piece::kSums, n.tile_pixels * n.n + n.lanes);
  int64_t end = std::min(column + n.stretch, p.out->dim(2));
  for (int64_t at = column; at < end; at += n.tile_pixels) {
    args.first = at - column;
    args.pixels = static_cast<int>(std::min(n.tile_pixels, end - at));
    kernels_.narrow[c.half](args);
    int64_t element = (line * p.out->dim(2) + at) * n.n;
    StoreArgs store;  // a tile's pixels lie side by side: one row
    store.sums = args.sums;
    store.rows = 1;
    store.columns = args.pixels * args.n;
    store.bias = n.bias;
    store.act = act_of(p.epilogue->activation);
    store.residual_type = type_of(residual.dtype);
    if (!residual.empty())
      store.residual =
          static_cast<const char*>(residual.address()) + static_cast<size_t>(element) * dtype_bytes(residual.dtype);
    store.out = static_cast<char*>(p.out->address()) + static_cast<size_t>(element) * dtype_bytes(p.out->dtype);
    store.out_type = type_of(p.out->dtype);
    kernels_.store(store);
  }
}

// Output lines [first_line, first_line + rows) of one frame: an input row stays staged while output rows look at it.
void CpuBackend::narrow_rows(const NarrowConvolution& n, int64_t first_line, int64_t rows, int64_t column,
                             ThreadScratch& scratch) {
  const Convolution& c = n.c;
  const ConvGeometry& g = c.geometry;
  int64_t height = c.product.out->dim(1), kernel_rows = c.kernel[1];
  int64_t front = first_line / height * g.stride[0] - g.zero_frames;
  const float* stage = scratch.at<float>(Piece::kStage, c.lines() * n.line_items());
  const float** staged_lines = scratch.at<const float*>(Piece::kMorePointers, c.lines());
  auto slot = [&](int64_t frame, int64_t row) { return frame * kernel_rows + row % kernel_rows; };
  for (int64_t line = first_line; line < first_line + rows; ++line) {
    int64_t row = line % height, staged = line == first_line ? 0 : kernel_rows - 1;
    for (int64_t i = 0; i < c.lines(); ++i) {
      int64_t frame = i / kernel_rows, at = i % kernel_rows;
      if (at >= staged)
        stage_pixels(n, c.source_line(front + frame, row - g.pad_top + at), column - g.pad_left, slot(frame, row + at),
                     scratch);
      staged_lines[i] = stage + slot(frame, row + at) * n.line_items();
    }
    narrow_line(n, line, column, scratch);
  }
}

void CpuBackend::narrow_conv(const Convolution& c) {
  const Product& p = c.product;
  int64_t width = p.out->dim(2), height = p.out->dim(1), frames = p.out->dim(0);
  NarrowConvolution n{NarrowStaging(c, c.size, kernels_.lanes), c, !c.half && p.x->dtype == DType::kBF16};
  scratch_.lay_out(n.scratch(), outside_);
  set_narrow_weights(n);
  int64_t parts = ceil_div(width, n.stretch);
  int64_t rows = std::clamp<int64_t>(frames * height * parts / (pool_.threads() * kJobsPerThread), 1,
                                     std::min(kRowsAtOnce, height));
  int64_t pieces = ceil_div(height, rows);
  pool_.parallel_for(frames * pieces * parts, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t job = begin; job < end; ++job) {
      int64_t frame = job / parts / pieces, row = job / parts % pieces * rows, column = job % parts * n.stretch;
      narrow_rows(n, frame * height + row, std::min(rows, height - row), column, scratch_.of(thread));
    }
  });
}

}  // namespace liveavatar::cpu
