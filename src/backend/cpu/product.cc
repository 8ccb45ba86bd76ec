// Linear and convolution: tiles of rows x panel columns, handed out to the threads. A convolution finds its operands by
// indirection: for each output pixel and kernel position a pointer to the input pixel's channels, to a carried frame,
// or to zeros.
#include <algorithm>
#include <cstring>

#include "backend/cpu/cpu_backend.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kBlockRows = 16 * kRows;  // rows that one piece of work takes through a panel while it is in cache
alignas(64) constexpr std::byte kZeros[1 << 16] = {};

}  // namespace

// What linear and conv have in common. Rows are tokens or output pixels.
struct CpuBackend::Product {
  PanelShape shape;
  const void* weight = nullptr;
  const float* bias = nullptr;
  const Tensor* x = nullptr;
  const Tensor* out = nullptr;
  const Epilogue* epilogue = nullptr;
  const ConvGeometry* geometry = nullptr;  // null: linear
  std::array<int64_t, 3> kernel{1, 1, 1};
  int64_t rows = 0, columns = 0, row_elements = 0;  // columns: out channels of all groups; row_elements: of x

  // Output channels of a panel that are there.
  int wanted_columns(int64_t panel) const {
    return static_cast<int>(std::min<int64_t>(shape.columns, shape.n - panel % shape.panels() * shape.columns));
  }
  // Operands of the tile's output rows at every kernel position, [taps][rows]; `skip` bytes into the pixel.
  void operands(int64_t first, int64_t count, size_t skip, const void** pointers) const;
  // Of one row, `stride` pointers apart.
  void row_operands(int64_t row, size_t skip, const void** pointers, int64_t stride) const;
  // How many rows behind this one, in its line, have its operands moved on by a pixel's stride each.
  int64_t followers(int64_t column) const;
};

int64_t CpuBackend::Product::followers(int64_t column) const {
  const ConvGeometry& g = *geometry;
  size_t step = static_cast<size_t>(row_elements * g.stride[2]) * dtype_bytes(x->dtype);
  bool zeros_end = (kRows + 1) * step > sizeof(kZeros);  // zeros are moved on too
  if (g.upsample2x || zeros_end || column * g.stride[2] < g.pad_left) return 0;
  int64_t last = std::min((x->dim(2) + g.pad_left - kernel[2]) / g.stride[2], out->dim(2) - 1);  // that needs no zeros
  return std::max<int64_t>(0, last - column);
}

void CpuBackend::Product::operands(int64_t first, int64_t count, size_t skip, const void** pointers) const {
  if (geometry == nullptr) {
    for (int64_t r = 0; r < count; ++r) row_operands(first + r, skip, pointers + r, count);
    return;
  }
  size_t step = static_cast<size_t>(row_elements * geometry->stride[2]) * dtype_bytes(x->dtype);
  for (int64_t r = 0; r < count;) {
    row_operands(first + r, skip, pointers + r, count);
    int64_t more = std::min(count - r - 1, followers((first + r) % out->dim(2)));
    for (int64_t i = r; i < shape.taps * count; i += count) {
      for (int64_t f = 1; f <= more; ++f)
        pointers[i + f] = static_cast<const char*>(pointers[i]) + static_cast<size_t>(f) * step;
    }
    r += 1 + more;
  }
}

void CpuBackend::Product::row_operands(int64_t row, size_t skip, const void** pointers, int64_t stride) const {
  size_t pixel_bytes = static_cast<size_t>(row_elements) * dtype_bytes(x->dtype);
  if (geometry == nullptr) {
    *pointers = static_cast<const char*>(x->data) + static_cast<size_t>(row) * pixel_bytes + skip;
    return;
  }
  const ConvGeometry& g = *geometry;
  int64_t out_width = out->dim(2), out_height = out->dim(1), height = x->dim(1), width = x->dim(2),
          up = g.upsample2x ? 1 : 0, history = g.history.empty() ? 0 : g.history.dim(0);
  int64_t left = row % out_width * g.stride[2] - g.pad_left;
  int64_t top = row / out_width % out_height * g.stride[1] - g.pad_top;
  int64_t front = row / out_width / out_height * g.stride[0] - g.zero_frames;
  for (int64_t frame = front; frame < front + kernel[0]; ++frame) {
    const Tensor& source = frame < history ? g.history : *x;
    int64_t source_frame = frame < history ? frame : frame - history;
    for (int64_t y = top; y < top + kernel[1]; ++y) {
      bool zeros = frame < 0 || y < 0 || y >= height << up;
      int64_t line = (source_frame * height + (y >> up)) * width;
      for (int64_t column = left; column < left + kernel[2]; ++column, pointers += stride) {
        *pointers = zeros || column < 0 || column >= width << up
                        ? static_cast<const void*>(kZeros)
                        : static_cast<const char*>(source.data) +
                              static_cast<size_t>(line + (column >> up)) * pixel_bytes + skip;
      }
    }
  }
}

// The bf16 dot product reads pairs: rows of an odd length are copied and padded, so that nothing behind them is read.
void CpuBackend::pad_rows(const void** pointers, int64_t count, int64_t k, ThreadScratch& scratch) {
  size_t padded = static_cast<size_t>(k + 1) * sizeof(bf16), all = static_cast<size_t>(count) * padded;
  scratch.rows.resize(std::max(scratch.rows.size(), all));
  for (int64_t i = 0; i < count; ++i) {
    std::byte* copy = scratch.rows.data() + static_cast<size_t>(i) * padded;
    std::memcpy(copy, pointers[i], padded - sizeof(bf16));
    std::memset(copy + padded - sizeof(bf16), 0, sizeof(bf16));
    pointers[i] = copy;
  }
}

void CpuBackend::run_tile(const Product& p, const Tile& t, ThreadScratch& scratch) {
  const PanelShape& s = p.shape;
  int64_t group = t.panel / s.panels();
  scratch.pointers.resize(std::max<size_t>(scratch.pointers.size(), static_cast<size_t>(s.taps * kRows)));
  const void** pointers = scratch.pointers.data();
  size_t skip = static_cast<size_t>(group * s.k) * dtype_bytes(p.x->dtype);
  p.operands(t.first, t.rows, skip, pointers);
  bool half = p.x->dtype == DType::kBF16, even = half && s.dtype == DType::kBF16;
  if (even && s.k % 2 != 0) pad_rows(pointers, s.taps * t.rows, s.k, scratch);
  TileArgs args;
  args.a = pointers;
  args.rows = t.rows;
  args.taps = s.taps;
  args.k = even ? (s.k + 1) / 2 * 2 : s.k;
  args.b = static_cast<const char*>(p.weight) + static_cast<size_t>(t.panel) * s.panel_bytes();
  args.sums = scratch.sums;
  args.columns = p.wanted_columns(t.panel);
  kernels_.tile[half][s.dtype == DType::kBF16](args);
  store_tile(p, t, scratch.sums);
}

// A stretch of k is unpacked once and serves all rows of the block; sums go on from stretch to stretch, so that a row
// adds up in the order of k whatever runs beside it.
void CpuBackend::run_quantised(const Product& p, int64_t first, int64_t last, int64_t panel, ThreadScratch& scratch) {
  constexpr int64_t kStretch = 512;
  const PanelShape& s = p.shape;
  const char* codes =
      static_cast<const char*>(p.weight) + static_cast<size_t>(panel) * s.panel_bytes() + s.scale_bytes();
  scratch.panel.resize(static_cast<size_t>(kStretch * s.columns) * sizeof(bf16));
  scratch.block_sums.resize(static_cast<size_t>(kBlockRows * s.columns));
  auto unpack =
      s.dtype == DType::kI8 ? kernels_.unpack_i8 : (s.dtype == DType::kQ4 ? kernels_.unpack_q4 : kernels_.unpack_f8);
  bool half = p.x->dtype == DType::kBF16;
  const void* pointers[kRows];
  TileArgs args;
  args.a = pointers;
  args.b = scratch.panel.data();
  args.columns = p.wanted_columns(panel);
  for (int64_t k = 0; k < s.k; k += kStretch) {
    int64_t depth = std::min(kStretch, s.k - k);
    unpack(codes + s.codes_bytes(k), depth, scratch.panel.data());
    args.k = half ? (depth + 1) / 2 * 2 : depth;
    args.more = k > 0;
    for (int64_t row = first; row < last; row += kRows) {
      args.rows = static_cast<int>(std::min<int64_t>(kRows, last - row));
      args.sums = scratch.block_sums.data() + (row - first) * s.columns;
      p.operands(row, args.rows, static_cast<size_t>(k) * dtype_bytes(p.x->dtype), pointers);
      if (half && depth % 2 != 0) pad_rows(pointers, args.rows, depth, scratch);
      kernels_.tile[half][1](args);
    }
  }
  for (int64_t row = first; row < last; row += kRows) {
    Tile tile{row, panel, static_cast<int>(std::min<int64_t>(kRows, last - row))};
    store_tile(p, tile, scratch.block_sums.data() + (row - first) * s.columns);
  }
}

void CpuBackend::store_tile(const Product& p, const Tile& t, const float* sums) {
  const PanelShape& s = p.shape;
  int64_t channel = t.panel / s.panels() * s.n + t.panel % s.panels() * s.columns, at = t.first * p.columns + channel;
  const float* gates[kRows];
  const Tensor& gate = p.epilogue->gate;
  for (int r = 0; !gate.empty() && r < t.rows; ++r)
    gates[r] = gate.f32() + (t.first + r) / (p.rows / gate.dim(0)) * gate.dim(1) + channel;
  const Tensor& residual = p.epilogue->residual;
  StoreArgs store;
  store.sums = sums;
  store.rows = t.rows;
  store.columns = p.wanted_columns(t.panel);
  if (is_8bit(s.dtype)) {
    store.scale = reinterpret_cast<const float*>(static_cast<const char*>(p.weight) +
                                                 static_cast<size_t>(t.panel) * s.panel_bytes());
  }
  store.bias = p.bias ? p.bias + channel : nullptr;
  store.act = act_of(p.epilogue->activation);
  store.gate = gate.empty() ? nullptr : gates;
  store.residual = residual.empty() ? nullptr
                                    : static_cast<const char*>(residual.data) +
                                          static_cast<size_t>(at) * dtype_bytes(residual.dtype);
  store.residual_type = type_of(residual.dtype);
  store.out = static_cast<char*>(p.out->data) + static_cast<size_t>(at) * dtype_bytes(p.out->dtype);
  store.out_type = type_of(p.out->dtype);
  store.stride = p.columns;
  kernels_.store(store);
}

void CpuBackend::run_product(const Product& p) {
  int64_t panels = p.shape.groups * p.shape.panels(), blocks = (p.rows + kBlockRows - 1) / kBlockRows;
  pool_.parallel_for(panels * blocks, 1, [&](int64_t begin, int64_t end, int thread) {
    ThreadScratch& scratch = scratch_[static_cast<size_t>(thread)];
    for (int64_t job = begin; job < end; ++job) {
      int64_t panel = job / blocks, first = job % blocks * kBlockRows, last = std::min(p.rows, first + kBlockRows);
      if (is_quantised(p.shape.dtype)) {
        run_quantised(p, first, last, panel, scratch);
        continue;
      }
      for (int64_t row = first; row < last; row += kRows)
        run_tile(p, {row, panel, static_cast<int>(std::min<int64_t>(kRows, last - row))}, scratch);
    }
  });
}

// Fills what linear and conv share; rows are those of out.
template <typename Weight>
CpuBackend::Product CpuBackend::product_of(const Tensor& x, const Weight& w, const Tensor& out,
                                           const Epilogue& e) const {
  Product p;
  p.shape = panel_shape(w, kernels_.columns);
  p.weight = w.data;
  p.bias = static_cast<const float*>(w.bias.data);
  p.x = &x;
  p.out = &out;
  p.epilogue = &e;
  p.columns = out.dim(out.rank() - 1);
  p.rows = out.elements() / p.columns;
  p.row_elements = x.dim(x.rank() - 1);
  return p;
}

void CpuBackend::linear(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e) {
  run_product(product_of(x, w, out, e));
}

void CpuBackend::conv(const Tensor& x, const ConvWeight& w, const ConvGeometry& g, const Tensor& out,
                      const Epilogue& e) {
  LA_CHECK(static_cast<size_t>(x.dim(3)) * dtype_bytes(x.dtype) <= sizeof(kZeros));
  Product p = product_of(x, w, out, e);
  p.geometry = &g;
  p.kernel = w.kernel;
  run_product(p);
}

}  // namespace liveavatar::cpu
