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

void CpuBackend::run_tile(const Product& p, int64_t first, int rows, int64_t panel, ThreadScratch& scratch) {
  const PanelShape& s = p.shape;
  int64_t group = panel / s.panels(), column = panel % s.panels() * s.columns;
  size_t item = dtype_bytes(p.x->dtype);
  scratch.pointers.resize(std::max<size_t>(scratch.pointers.size(), static_cast<size_t>(s.taps * kRows)));
  const void** pointers = scratch.pointers.data();
  p.operands(first, rows, static_cast<size_t>(group * s.k) * item, pointers);
  // The bf16 dot product reads pairs: an odd row is copied and padded, so that nothing behind it is read.
  if (s.k % 2 != 0 && p.x->dtype == DType::kBF16 && s.dtype == DType::kBF16) {
    size_t padded = static_cast<size_t>(s.k + 1) * item, all = static_cast<size_t>(s.taps * rows) * padded;
    scratch.rows.resize(std::max(scratch.rows.size(), all));
    for (int64_t i = 0; i < s.taps * rows; ++i) {
      std::byte* copy = scratch.rows.data() + static_cast<size_t>(i) * padded;
      std::memcpy(copy, pointers[i], static_cast<size_t>(s.k) * item);
      std::memset(copy + static_cast<size_t>(s.k) * item, 0, item);
      pointers[i] = copy;
    }
  }
  bool even = s.dtype == DType::kBF16 && p.x->dtype == DType::kBF16;
  TileArgs tile;
  tile.a = pointers;
  tile.rows = rows;
  tile.taps = s.taps;
  tile.k = even ? (s.k + 1) / 2 * 2 : s.k;
  tile.b = static_cast<const char*>(p.weight) + static_cast<size_t>(panel) * s.panel_bytes();
  tile.sums = scratch.sums;
  tile.columns = static_cast<int>(std::min<int64_t>(s.columns, s.n - column));
  kernels_.tile[p.x->dtype == DType::kBF16][s.dtype == DType::kBF16](tile);

  int64_t channel = group * s.n + column, at = first * p.columns + channel;
  const float* gates[kRows];
  const Tensor& gate = p.epilogue->gate;
  for (int r = 0; !gate.empty() && r < rows; ++r)
    gates[r] = gate.f32() + (first + r) / (p.rows / gate.dim(0)) * gate.dim(1) + channel;
  const Tensor& residual = p.epilogue->residual;
  StoreArgs store;
  store.sums = scratch.sums;
  store.rows = rows;
  store.columns = tile.columns;
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
    for (int64_t job = begin; job < end; ++job) {
      int64_t panel = job / blocks, first = job % blocks * kBlockRows, last = std::min(p.rows, first + kBlockRows);
      for (int64_t row = first; row < last; row += kRows) {
        run_tile(p, row, static_cast<int>(std::min<int64_t>(kRows, last - row)), panel,
                 scratch_[static_cast<size_t>(thread)]);
      }
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
