// Convolution, a stretch of an output line at a time. The input lines that it looks at are laid side by side in
// scratch, zeros and doubled pixels in place, so that the tiles' operands lie on a regular grid. They are f32, which
// the tiles multiply fastest, or bf16 where the CPU has a dot product for it.
#include "backend/cpu/conv.h"

#include <algorithm>
#include <cstring>

#include "core/rounding.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kFewest = 4 * kRows, kMost = 16 * kRows;  // output pixels of a stretch
constexpr int64_t kMatrixMost = 4 * kMatrixRows, kMostLines = 4;

// Every pixel on its own: rows of a linear product.
bool is_pointwise(const ConvWeight& w, const ConvGeometry& g) {
  auto is_one = [](const std::array<int64_t, 3>& v) { return v[0] == 1 && v[1] == 1 && v[2] == 1; };
  bool padded = g.pad_top + g.pad_bottom + g.pad_left + g.pad_right + g.zero_frames > 0;
  return is_one(w.kernel) && is_one(g.stride) && w.groups == 1 && !padded && !g.upsample2x && g.history.empty();
}

}  // namespace

Staging::Staging(const ConvSize& size, bool on_unit, bool in_bf16) : kernel(size.kernel), unit(on_unit), half(in_bf16) {
  k = half ? (size.in_channels + 1) / 2 * 2 : size.in_channels;
  int64_t a_pixel = lines() * static_cast<int64_t>(pixel_bytes()) * size.column_stride;
  int64_t fitting =
      unit ? std::clamp<int64_t>(kMatrixStageBytes / a_pixel / kMatrixRows * kMatrixRows, kMatrixRows, kMatrixMost)
           : std::clamp(kStageBytes / a_pixel / kRows * kRows, kFewest, kMost);
  stretch = std::min(size.columns, fitting);
  line_pixels = (stretch - 1) * size.column_stride + kernel[2];
  if (unit) at_once = std::clamp<int64_t>(kMatrixStageBytes / stage_bytes(), 1, kMostLines);
}

ScratchSizes Staging::scratch(int64_t columns) const {
  ScratchSizes s;
  s.want(Piece::kPointers, taps() * (unit ? 1 : kRows), sizeof(void*));
  s.want(Piece::kStage, at_once * stage_bytes(), 1);
  if (unit) s.want(Piece::kSums, stretch * columns, sizeof(float));
  return s;
}

// In every type that such a convolution may come in.
Status CpuBackend::reserve_conv(const ConvSize& size) {
  auto reserve = [&](bool unit, bool half) -> Status {
    const Staging staging(size, unit, half);
    if (!unit && may_be_narrow(size))
      LA_RETURN_IF_ERROR(scratch_.reserve(NarrowStaging(staging, size, kernels_.lanes).scratch(), budget_));
    return scratch_.reserve(staging.scratch(kernels_.columns), budget_);
  };
  LA_RETURN_IF_ERROR(reserve(false, false));
  if (kernels_.multiplies_bf16) LA_RETURN_IF_ERROR(reserve(false, true));
  return kernels_.matrix ? reserve(true, true) : Status();
}

const char* CpuBackend::Convolution::source_line(int64_t frame, int64_t row) const {
  const Tensor& x = *product.x;
  int64_t up = geometry.upsample2x ? 1 : 0, history = geometry.history.empty() ? 0 : geometry.history.dim(0);
  if (frame < 0 || row < 0 || row >= x.dim(1) << up) return nullptr;
  const Tensor& source = frame < history ? geometry.history : x;
  int64_t line = (frame < history ? frame : frame - history) * x.dim(1) + (row >> up);
  return static_cast<const char*>(source.address()) +
         static_cast<size_t>(line * x.dim(2) * x.dim(3)) * dtype_bytes(x.dtype);
}

// Channels [group * k, ...) of input pixels [first, first + line_pixels) of a line -> target.
void CpuBackend::stage_line(const Convolution& c, const char* line, int64_t first, int64_t group, std::byte* target) {
  const Tensor& x = *c.product.x;
  int64_t up = c.geometry.upsample2x ? 1 : 0, channels = c.product.shape.k, width = x.dim(2) << up;
  int64_t begin = std::clamp<int64_t>(-first, 0, c.line_pixels), end = std::clamp(width - first, begin, c.line_pixels);
  size_t staged = c.pixel_bytes(), item = dtype_bytes(x.dtype), pixel = static_cast<size_t>(x.dim(3)) * item;
  if (line == nullptr) begin = end = 0;
  std::memset(target, 0, static_cast<size_t>(begin) * staged);
  std::memset(target + static_cast<size_t>(end) * staged, 0, static_cast<size_t>(c.line_pixels - end) * staged);
  auto take = [&](const char* from, int64_t count, std::byte* to) {
    if (!c.half && x.dtype == DType::kBF16) {
      kernels_.widen(from, count, reinterpret_cast<float*>(to));
    } else {
      std::memcpy(to, from, static_cast<size_t>(count) * item);
    }
  };
  const char* from = line + static_cast<size_t>(group * channels) * item;
  if (up == 0 && x.dim(3) == c.k) {
    if (end > begin)
      take(from + static_cast<size_t>(first + begin) * pixel, (end - begin) * c.k,
           target + static_cast<size_t>(begin) * staged);
    return;
  }
  for (int64_t i = begin; i < end; ++i) {
    std::byte* to = target + static_cast<size_t>(i) * staged;
    if (i > begin && up == 1 && (first + i) % 2 != 0) {
      std::memcpy(to, to - staged, staged);
      continue;
    }
    if (c.k != channels) std::memset(to, 0, staged);
    take(from + static_cast<size_t>((first + i) >> up) * pixel, channels, to);
  }
}

// What output pixels from `first` of output line `line` (frame * rows + row) look at.
void CpuBackend::stage_stretch(const Convolution& c, int64_t line, int64_t first, int64_t group, std::byte* stage) {
  const ConvGeometry& g = c.geometry;
  int64_t height = c.product.out->dim(1);
  int64_t front = line / height * g.stride[0] - g.zero_frames, top = line % height * g.stride[1] - g.pad_top;
  for (int64_t i = 0; i < c.lines(); ++i, stage += static_cast<size_t>(c.line_pixels) * c.pixel_bytes()) {
    const char* source = c.source_line(front + i / c.kernel[1], top + i % c.kernel[1]);
    stage_line(c, source, first * g.stride[2] - g.pad_left, group, stage);
  }
}

// All groups and panels.
void CpuBackend::run_stretch(const Convolution& c, const Stretch& s, ThreadScratch& scratch) {
  const Product& p = c.product;
  int64_t width = p.out->dim(2), panels = p.shape.panels();
  std::byte* stage = scratch.at<std::byte>(Piece::kStage, s.lines * c.stage_bytes());
  for (int64_t group = 0; group < p.shape.groups; ++group) {
    for (int64_t i = 0; i < s.lines; ++i)
      stage_stretch(c, s.line + i, s.first, group, stage + static_cast<size_t>(i * c.stage_bytes()));
    for (int64_t panel = group * panels; panel < (group + 1) * panels; ++panel) {
      for (int64_t i = 0; c.unit && i < s.lines; ++i)
        run_staged_matrix(c, {(s.line + i) * width + s.first, panel, static_cast<int>(s.count)}, i, scratch);
      for (int64_t at = 0; !c.unit && at < s.count; at += kRows) {
        Tile tile{s.line * width + s.first + at, panel, static_cast<int>(std::min<int64_t>(kRows, s.count - at))};
        run_staged(c, tile, at, scratch);
      }
    }
  }
}

// A tile whose first output pixel is the stretch's pixel `at`.
void CpuBackend::run_staged(const Convolution& c, const Tile& t, int64_t at, ThreadScratch& scratch) {
  const Product& p = c.product;
  const void** pointers = scratch.at<const void*>(Piece::kPointers, c.taps() * kRows);
  const void** pointer = pointers;
  size_t step = static_cast<size_t>(c.geometry.stride[2]) * c.pixel_bytes();
  const std::byte* line = scratch.at<std::byte>(Piece::kStage, c.stage_bytes()) + static_cast<size_t>(at) * step;
  for (int64_t i = 0; i < c.lines(); ++i, line += static_cast<size_t>(c.line_pixels) * c.pixel_bytes()) {
    for (int64_t column = 0; column < c.kernel[2]; ++column) {
      const std::byte* tap = line + static_cast<size_t>(column) * c.pixel_bytes();
      for (int r = 0; r < t.rows; ++r, tap += step) *pointer++ = tap;
    }
  }
  TileArgs args;
  args.a = pointers;
  args.rows = t.rows;
  args.taps = p.shape.taps;
  args.k = c.k;
  args.b = p.panel(t.panel);
  args.sums = scratch.sums;
  args.columns = p.wanted_columns(t.panel);
  kernels_.tile[c.half][p.shape.dtype == DType::kBF16](args);
  store_tile(p, t, scratch.sums);
}

// All of the stretch in one line, the `staged`th: its pixels are rows at even distances.
void CpuBackend::run_staged_matrix(const Convolution& c, const Tile& t, int64_t staged, ThreadScratch& scratch) {
  const Product& p = c.product;
  const void** pointers = scratch.at<const void*>(Piece::kPointers, c.taps());
  const void** tap = pointers;
  const std::byte* stage = scratch.at<std::byte>(Piece::kStage, (staged + 1) * c.stage_bytes()) +
                           static_cast<size_t>(staged * c.stage_bytes());
  for (int64_t i = 0; i < c.lines(); ++i) {
    for (int64_t column = 0; column < c.kernel[2]; ++column)
      *tap++ = stage + static_cast<size_t>(i * c.line_pixels + column) * c.pixel_bytes();
  }
  float* sums = scratch.at<float>(Piece::kSums, t.rows * p.shape.columns);
  MatrixArgs args;
  args.a = pointers;
  args.row_bytes = c.geometry.stride[2] * static_cast<int64_t>(c.pixel_bytes());
  args.piece_bytes = kPieceBytes;
  args.rows = t.rows;
  args.columns = p.wanted_columns(t.panel);
  args.taps = p.shape.taps;
  args.items = c.k / 2;
  args.b = p.panel(t.panel);
  args.sums = sums;
  if (staged == 0 && t.panel + 1 < p.shape.groups * p.shape.panels()) {
    args.soon[0] = p.panel(t.panel + 1);
    args.soon_bytes[0] = static_cast<int64_t>(p.shape.panel_bytes());
  }
  kernels_.matrix(args);
  store_rows(p, t, sums);
}

void CpuBackend::conv(const Tensor& x, const ConvWeight& w, const ConvGeometry& g, const Tensor& out,
                      const Epilogue& e) {
  Product p = product_of(x, w, kernels_, out, e);
  if (is_pointwise(w, g)) return linear_product(p);
  bool unit = fits_matrix(p),
       half = unit || (kernels_.multiplies_bf16 && x.dtype == DType::kBF16 && w.dtype == DType::kBF16);
  int64_t width = out.dim(2), lines = out.dim(0) * out.dim(1);
  const ConvSize size{p.shape.k, p.shape.n, w.kernel, g.stride[2], width};
  const Convolution c(Staging(size, unit, half), p, g, size);
  if (!unit && is_narrow(c)) return narrow_conv(c);
  scratch_.lay_out(c.scratch(kernels_.columns), outside_);
  int64_t a_line = ceil_div(width, c.stretch);
  int64_t at_once = std::clamp<int64_t>(lines * a_line / (pool_.threads() * kJobsPerThread), 1, c.at_once);
  pool_.parallel_for(ceil_div(lines, at_once) * a_line, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t job = begin; job < end; ++job) {
      int64_t line = job / a_line * at_once, first = job % a_line * c.stretch;
      run_stretch(c, {line, std::min(at_once, lines - line), first, std::min(c.stretch, width - first)},
                  scratch_.of(thread));
    }
  });
}

}  // namespace liveavatar::cpu
