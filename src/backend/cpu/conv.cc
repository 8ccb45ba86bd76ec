// Convolution, one segment of an output line at a time. Its input lines are staged in scratch, with zeros and doubled
// pixels in place, so that the micro-kernel's operands are on a regular grid. They are f32, which is fastest, or bf16
// if the CPU has a dot product for it.
#include "backend/cpu/conv.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/linear.h"
#include "backend/cpu/matrix_product.h"
#include "backend/cpu/small_output_conv.h"
#include "core/rounding.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kFewest = 4 * kRows, kMost = 16 * kRows;  // output pixels of a segment
constexpr int64_t kMatrixMost = 4 * kMatrixRows, kMostLines = 4;

// A 1x1 convolution: a linear product of rows.
bool is_pointwise(const ConvWeight& w, const ConvGeometry& g) {
  auto is_one = [](const std::array<int64_t, 3>& v) { return v[0] == 1 && v[1] == 1 && v[2] == 1; };
  bool padded = g.pad_top + g.pad_bottom + g.pad_left + g.pad_right + g.zero_frames > 0;
  return is_one(w.kernel) && is_one(g.stride) && w.groups == 1 && !padded && !g.upsample2x && g.history.empty();
}

}  // namespace

Staging::Staging(const ConvSize& size, bool on_unit, bool in_bf16)
    : kernel(size.kernel), unit(on_unit), is_bf16(in_bf16) {
  k = is_bf16 ? round_up(size.in_channels, 2) : size.in_channels;
  // As many output pixels, in whole tiles, as their input fits into the stage.
  int64_t pixel_stage = lines() * static_cast<int64_t>(pixel_bytes()) * size.column_stride;
  int64_t fitting = 0;
  if (unit) {
    fitting = kMatrixStageBytes / pixel_stage / kMatrixRows * kMatrixRows;
    fitting = std::clamp<int64_t>(fitting, kMatrixRows, kMatrixMost);
  } else {
    fitting = kStageBytes / pixel_stage / kRows * kRows;
    fitting = std::clamp(fitting, kFewest, kMost);
  }
  segment = std::min(size.columns, fitting);
  line_pixels = (segment - 1) * size.column_stride + kernel[2];
  if (unit) at_once = std::clamp<int64_t>(kMatrixStageBytes / stage_bytes(), 1, kMostLines);
}

ScratchSizes Staging::scratch(int64_t columns) const {
  ScratchSizes s;
  s.want(ScratchBuffer::kPointers, taps() * (unit ? 1 : kRows), sizeof(void*));
  s.want(ScratchBuffer::kStage, at_once * stage_bytes(), 1);
  if (unit) s.want(ScratchBuffer::kAcc, segment * columns, sizeof(float));
  return s;
}

const char* ConvCall::source_line(int64_t frame, int64_t row) const {
  const Tensor& x = *product.x;
  int64_t up = geometry.upsample2x ? 1 : 0;
  int64_t history = geometry.history.empty() ? 0 : geometry.history.dim(0);
  if (frame < 0 || row < 0 || row >= x.dim(1) << up) return nullptr;
  const Tensor& source = frame < history ? geometry.history : x;
  int64_t source_frame = frame < history ? frame : frame - history;
  int64_t line = source_frame * x.dim(1) + (row >> up);
  return static_cast<const char*>(source.address()) +
         static_cast<size_t>(line * x.dim(2) * x.dim(3)) * dtype_bytes(x.dtype);
}

// `count` values of x in the stage's type.
void Convolution::copy_channels(const char* from, int64_t count, std::byte* to) const {
  DType type = c_.product.x->dtype;
  if (!c_.is_bf16 && type == DType::kBF16) {
    kernels_.widen(from, count, reinterpret_cast<float*>(to));
  } else {
    std::memcpy(to, from, static_cast<size_t>(count) * dtype_bytes(type));
  }
}

// Channels [group * k, ...) of input pixels [first, first + line_pixels) of a line -> target.
void Convolution::stage_line(const char* line, int64_t first, int64_t group, std::byte* target) const {
  const Tensor& x = *c_.product.x;
  int64_t up = c_.geometry.upsample2x ? 1 : 0;
  int64_t channels = c_.product.shape.k;
  int64_t width = x.dim(2) << up;
  // Pixels [begin, end) of the stage exist; the others are zeros.
  int64_t begin = 0;
  int64_t end = 0;
  if (line != nullptr) {
    begin = std::clamp<int64_t>(-first, 0, c_.line_pixels);
    end = std::clamp(width - first, begin, c_.line_pixels);
  }
  size_t staged = c_.pixel_bytes();
  size_t item = dtype_bytes(x.dtype);
  size_t pixel = static_cast<size_t>(x.dim(3)) * item;
  std::memset(target, 0, static_cast<size_t>(begin) * staged);
  std::memset(target + static_cast<size_t>(end) * staged, 0, static_cast<size_t>(c_.line_pixels - end) * staged);
  if (end == begin) return;
  const char* from = line + static_cast<size_t>(group * channels) * item;
  if (up == 0 && x.dim(3) == c_.k) {
    copy_channels(from + static_cast<size_t>(first + begin) * pixel, (end - begin) * c_.k,
                  target + static_cast<size_t>(begin) * staged);
    return;
  }
  for (int64_t i = begin; i < end; ++i) {
    std::byte* to = target + static_cast<size_t>(i) * staged;
    if (i > begin && up == 1 && (first + i) % 2 != 0) {
      std::memcpy(to, to - staged, staged);
      continue;
    }
    if (c_.k != channels) std::memset(to, 0, staged);
    copy_channels(from + static_cast<size_t>((first + i) >> up) * pixel, channels, to);
  }
}

// Stages the input of output pixels from `first` of output line `line` (frame * rows + row).
void Convolution::stage_segment(int64_t line, int64_t first, int64_t group, std::byte* stage) const {
  const ConvGeometry& g = c_.geometry;
  int64_t height = c_.product.out->dim(1);
  int64_t front = line / height * g.stride[0] - g.zero_frames;
  int64_t top = line % height * g.stride[1] - g.pad_top;
  for (int64_t i = 0; i < c_.lines(); ++i) {
    const char* source = c_.source_line(front + i / c_.kernel[1], top + i % c_.kernel[1]);
    stage_line(source, first * g.stride[2] - g.pad_left, group, stage);
    stage += c_.line_bytes();
  }
}

// All groups and panels.
void Convolution::run_segment(const Segment& s, ThreadScratch& scratch) const {
  int64_t panels = c_.product.shape.panels();
  std::byte* stage = scratch.at<std::byte>(ScratchBuffer::kStage, s.lines * c_.stage_bytes());
  for (int64_t group = 0; group < c_.product.shape.groups; ++group) {
    for (int64_t i = 0; i < s.lines; ++i)
      stage_segment(s.line + i, s.first, group, stage + static_cast<size_t>(i * c_.stage_bytes()));
    for (int64_t i = 0; i < panels; ++i) run_panel(s, group * panels + i, scratch);
  }
}

void Convolution::run_panel(const Segment& s, int64_t panel, ThreadScratch& scratch) const {
  int64_t width = c_.product.out->dim(2);
  if (c_.unit) {
    for (int64_t i = 0; i < s.lines; ++i)
      run_matrix({(s.line + i) * width + s.first, panel, static_cast<int>(s.count)}, i, scratch);
    return;
  }
  for (int64_t at = 0; at < s.count; at += kRows) {
    int rows = static_cast<int>(std::min<int64_t>(kRows, s.count - at));
    run_tile({s.line * width + s.first + at, panel, rows}, at, scratch);
  }
}

// A tile whose first output pixel is the segment's pixel `at`.
void Convolution::run_tile(const Tile& t, int64_t at, ThreadScratch& scratch) const {
  const Product& p = c_.product;
  const void** pointers = scratch.at<const void*>(ScratchBuffer::kPointers, c_.taps() * kRows);
  const void** pointer = pointers;
  // Local copies: otherwise the compiler reads them again after every store of a pointer.
  const int64_t lines = c_.lines();
  const int64_t columns = c_.kernel[2];
  const size_t pixel_bytes = c_.pixel_bytes();
  const size_t line_bytes = c_.line_bytes();
  const size_t step = static_cast<size_t>(c_.geometry.stride[2]) * pixel_bytes;
  const int rows = t.rows;
  const std::byte* line =
      scratch.at<std::byte>(ScratchBuffer::kStage, c_.stage_bytes()) + static_cast<size_t>(at) * step;
  for (int64_t i = 0; i < lines; ++i, line += line_bytes) {
    for (int64_t column = 0; column < columns; ++column) {
      const std::byte* tap = line + static_cast<size_t>(column) * pixel_bytes;
      for (int r = 0; r < rows; ++r, tap += step) *pointer++ = tap;
    }
  }
  TileArgs args;
  args.a = pointers;
  args.rows = t.rows;
  args.taps = p.shape.taps;
  args.k = c_.k;
  args.b = p.panel(t.panel);
  args.acc = scratch.acc;
  args.columns = p.wanted_columns(t.panel);
  kernels_.tile[c_.is_bf16][p.shape.dtype == DType::kBF16](args);
  store_tile(kernels_, p, t, scratch.acc);
}

// The whole segment in the staged line `staged`: its pixels are rows with a constant stride.
void Convolution::run_matrix(const Tile& t, int64_t staged, ThreadScratch& scratch) const {
  const Product& p = c_.product;
  const void** pointers = scratch.at<const void*>(ScratchBuffer::kPointers, c_.taps());
  const void** tap = pointers;
  const std::byte* line = scratch.at<std::byte>(ScratchBuffer::kStage, (staged + 1) * c_.stage_bytes()) +
                          static_cast<size_t>(staged * c_.stage_bytes());
  for (int64_t i = 0; i < c_.lines(); ++i, line += c_.line_bytes()) {
    for (int64_t column = 0; column < c_.kernel[2]; ++column)
      *tap++ = line + static_cast<size_t>(column) * c_.pixel_bytes();
  }
  float* acc = scratch.at<float>(ScratchBuffer::kAcc, t.rows * p.shape.columns);
  MatrixArgs args;
  args.a = pointers;
  args.row_bytes = c_.geometry.stride[2] * static_cast<int64_t>(c_.pixel_bytes());
  args.chunk_bytes = kChunkBytes;
  args.rows = t.rows;
  args.columns = p.wanted_columns(t.panel);
  args.taps = p.shape.taps;
  args.items = c_.k / 2;
  args.b = p.panel(t.panel);
  args.acc = acc;
  if (staged == 0 && t.panel + 1 < p.shape.groups * p.shape.panels()) {
    args.prefetch[0] = p.panel(t.panel + 1);
    args.prefetch_bytes[0] = static_cast<int64_t>(p.shape.panel_bytes());
  }
  kernels_.matrix(args);
  store_rows(kernels_, p, t, acc);
}

void Convolution::run() const {
  const Tensor& out = *c_.product.out;
  int64_t width = out.dim(2);
  int64_t lines = out.dim(0) * out.dim(1);
  int64_t segments = ceil_div(width, c_.segment);  // of a line
  int64_t jobs_wanted = context_.threads() * kJobsPerThread;
  int64_t at_once = std::clamp<int64_t>(lines * segments / jobs_wanted, 1, c_.at_once);
  context_.begin(c_.scratch(kernels_.columns));
  context_.pool().parallel_for(ceil_div(lines, at_once) * segments, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t job = begin; job < end; ++job) {
      Segment s;
      s.line = job / segments * at_once;
      s.lines = std::min(at_once, lines - s.line);
      s.first = job % segments * c_.segment;
      s.count = std::min(c_.segment, width - s.first);
      run_segment(s, context_.scratch(thread));
    }
  });
}

Status reserve_conv(CpuContext& context, const ConvSize& size) {
  const Kernels& kernels = context.kernels();
  auto reserve = [&](bool unit, bool in_bf16) -> Status {
    const Staging staging(size, unit, in_bf16);
    if (!unit && SmallOutputConvolution::fits(kernels, size))
      LA_RETURN_IF_ERROR(context.reserve(SmallOutputStaging(staging, size, kernels.lanes).scratch()));
    return context.reserve(staging.scratch(kernels.columns));
  };
  LA_RETURN_IF_ERROR(reserve(false, false));
  if (kernels.multiplies_bf16) LA_RETURN_IF_ERROR(reserve(false, true));
  if (kernels.matrix) LA_RETURN_IF_ERROR(reserve(true, true));
  return {};
}

void run_conv(CpuContext& context, const Product& p, const ConvWeight& w, const ConvGeometry& g) {
  if (is_pointwise(w, g)) return run_linear(context, p);
  const Kernels& kernels = context.kernels();
  bool unit = MatrixProduct::fits(context, p);
  bool bf16_pairs = kernels.multiplies_bf16 && p.x->dtype == DType::kBF16 && w.dtype == DType::kBF16;
  const ConvSize size{.in_channels = p.shape.k,
                      .out_channels = p.shape.n,
                      .kernel = w.kernel,
                      .column_stride = g.stride[2],
                      .columns = p.out->dim(2)};
  const ConvCall call(Staging(size, unit, unit || bf16_pairs), p, g, size);
  if (!unit && SmallOutputConvolution::fits(kernels, call)) {
    SmallOutputConvolution(context, call).run();
  } else {
    Convolution(context, call).run();
  }
}

}  // namespace liveavatar::cpu
