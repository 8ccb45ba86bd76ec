// Linear: tiles of rows x panel columns, handed out to the threads.
#include "backend/cpu/product.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "core/rounding.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kStretch = 512;           // k that a quantised panel is unpacked for at once
constexpr int64_t kCodeStretch = 1536;      // k of codes for products in 8 bits: so their sums are seldom put away
constexpr int64_t kBlockRows = 16 * kRows;  // rows that one piece of work takes through a panel while it is in cache
constexpr int64_t kCodeRows = 64 * kRows;   // of codes: unpacking the panel's costs more beside their products

int64_t code_stride(int64_t k) { return (k + 3) / 4 * 4; }

}  // namespace

ScratchSizes CpuBackend::linear_scratch(int64_t k) const {
  ScratchSizes s;
  if (kernels_.matrix) s = matrix_scratch(k);
  s.want(Piece::kRowCopies, kRows * (k + 1), sizeof(bf16));
  s.want(Piece::kPanel, kStretch * kernels_.columns, sizeof(bf16));
  s.want(Piece::kSums, kBlockRows * kernels_.columns, sizeof(float));
  if (!int8_products_ || kernels_.matrix_i8) return s;
  s.want(Piece::kPanel, kCodeStretch * kernels_.columns, 1);
  s.want(Piece::kSums, kCodeRows * kernels_.columns, sizeof(float));
  s.want(Piece::kOffsets, kernels_.columns, sizeof(int));
  return s;
}

// The bf16 dot product reads pairs: rows of an odd length are copied and padded, so that nothing behind them is read.
void CpuBackend::pad_rows(const void** pointers, int64_t count, int64_t k, ThreadScratch& scratch) {
  size_t padded = static_cast<size_t>(k + 1) * sizeof(bf16);
  std::byte* copy = scratch.at<std::byte>(Piece::kRowCopies, count * static_cast<int64_t>(padded));
  for (int64_t i = 0; i < count; ++i, copy += padded) {
    std::memcpy(copy, pointers[i], padded - sizeof(bf16));
    std::memset(copy + padded - sizeof(bf16), 0, sizeof(bf16));
    pointers[i] = copy;
  }
}

void CpuBackend::run_tile(const Product& p, const Tile& t, ThreadScratch& scratch) {
  const PanelShape& s = p.shape;
  const void* pointers[kRows];
  for (int r = 0; r < t.rows; ++r) pointers[r] = p.operand(t.first + r, 0);
  bool half = p.x->dtype == DType::kBF16, even = half && s.dtype == DType::kBF16;
  if (even && s.k % 2 != 0) pad_rows(pointers, t.rows, s.k, scratch);
  TileArgs args;
  args.a = pointers;
  args.rows = t.rows;
  args.k = even ? (s.k + 1) / 2 * 2 : s.k;
  args.b = p.panel(t.panel);
  args.sums = scratch.sums;
  args.columns = p.wanted_columns(t.panel);
  kernels_.tile[half][s.dtype == DType::kBF16](args);
  store_tile(p, t, scratch.sums);
}

// A stretch of k is unpacked once and serves all rows of the block; sums go on from stretch to stretch, so that a row
// adds up in the order of k whatever runs beside it.
void CpuBackend::run_quantised(const Product& p, int64_t first, int64_t last, int64_t panel, ThreadScratch& scratch) {
  const PanelShape& s = p.shape;
  const char* codes = static_cast<const char*>(p.panel(panel)) + s.scale_bytes();
  bf16* unpacked = scratch.at<bf16>(Piece::kPanel, kStretch * s.columns);
  float* sums = scratch.at<float>(Piece::kSums, (last - first) * s.columns);
  auto unpack = unpack_of(kernels_, s.dtype);
  bool half = p.x->dtype == DType::kBF16;
  const void* pointers[kRows];
  TileArgs args;
  args.a = pointers;
  args.b = unpacked;
  args.columns = p.wanted_columns(panel);
  for (int64_t k = 0; k < s.k; k += kStretch) {
    int64_t depth = std::min(kStretch, s.k - k);
    unpack(codes + s.codes_bytes(k), depth, unpacked);
    args.k = half ? (depth + 1) / 2 * 2 : depth;
    args.more = k > 0;
    for (int64_t row = first; row < last; row += kRows) {
      args.rows = static_cast<int>(std::min<int64_t>(kRows, last - row));
      args.sums = sums + (row - first) * s.columns;
      for (int r = 0; r < args.rows; ++r) pointers[r] = p.operand(row + r, k);
      if (half && depth % 2 != 0) pad_rows(pointers, args.rows, depth, scratch);
      kernels_.tile[half][1](args);
    }
  }
  store_rows(p, {first, panel, static_cast<int>(last - first)}, sums);
}

// A block of rows through a panel of codes: as run_quantised, with exact sums.
void CpuBackend::run_codes(const Product& p, const Tile& t, const RowCodes& rows, ThreadScratch& scratch) {
  const PanelShape& s = p.shape;
  const char* codes = static_cast<const char*>(p.panel(t.panel)) + s.scale_bytes();
  std::byte* quads = scratch.at<std::byte>(Piece::kPanel, kCodeStretch * s.columns);
  int* sums = scratch.at<int>(Piece::kSums, t.rows * s.columns);
  int* offsets = scratch.at<int>(Piece::kOffsets, s.columns);
  std::fill_n(offsets, s.columns, 0);
  int64_t first = t.first - rows.first;
  QuadArgs args;
  args.stride = rows.stride;
  args.b = quads;
  args.sums_stride = s.columns;
  for (int64_t k = 0; k < s.k; k += kCodeStretch) {
    int64_t depth = std::min(kCodeStretch, s.k - k);
    kernels_.quads_i8(codes + s.codes_bytes(k), depth, quads, offsets);
    args.quads = (depth + 3) / 4;
    args.more = k > 0;
    for (int row = 0; row < t.rows; row += kRows) {
      args.rows = std::min(kRows, t.rows - row);
      args.a = rows.codes + (first + row) * rows.stride + k;
      args.sums = sums + row * s.columns;
      kernels_.quad_tile(args);
    }
  }
  kernels_.scale_quads(sums, t.rows, offsets, rows.scales + first);
  store_rows(p, t, reinterpret_cast<const float*>(sums));
}

// 8-bit weights times activations quantised row by row, where that is asked for: once for all threads and panels.
void CpuBackend::run_int8_product(const Product& p) {
  int64_t stride = code_stride(p.shape.k), panels = p.shape.panels();
  have_packed(laid_out_bytes(0));
  int64_t fitting = static_cast<int64_t>(packed_.bytes()) / (stride + static_cast<int64_t>(sizeof(float)));
  LA_CHECK(fitting > 0);
  RowCodes rows{reinterpret_cast<unsigned char*>(packed_.data()), nullptr, stride, 0};
  for (int64_t count; rows.first < p.rows; rows.first += count) {
    count = std::min(fitting, p.rows - rows.first);
    rows.scales = reinterpret_cast<float*>(rows.codes + count * stride);
    pool_.parallel_for(count, kRows, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        kernels_.quantise_row({p.operand(rows.first + i, 0), type_of(p.x->dtype)}, p.shape.k, rows.codes + i * stride,
                              rows.scales + i);
    });
    int64_t blocks = ceil_div(count, kCodeRows);
    pool_.parallel_for(panels * blocks, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t job = begin; job < end; ++job) {
        int64_t first = job % blocks * kCodeRows;
        int n = static_cast<int>(std::min(kCodeRows, count - first));
        run_codes(p, {rows.first + first, job / blocks, n}, rows, scratch_.of(thread));
      }
    });
  }
}

void CpuBackend::store_tile(const Product& p, const Tile& t, const float* sums) {
  const PanelShape& s = p.shape;
  int64_t channel = t.panel / s.panels() * s.n + t.panel % s.panels() * s.columns, at = t.first * p.columns + channel;
  const float* gates[kMatrixRows];
  const Tensor& gate = p.epilogue->gate;
  if (!gate.empty()) {
    int64_t of_a_gate = p.rows / gate.dim(0), group = t.first / of_a_gate, next = (group + 1) * of_a_gate - t.first;
    for (int r = 0; r < t.rows; ++r) {
      if (r == next) ++group, next += of_a_gate;
      gates[r] = gate.host<float>() + group * gate.dim(1) + channel;
    }
  }
  const Tensor& residual = p.epilogue->residual;
  StoreArgs store;
  store.sums = sums;
  store.rows = t.rows;
  store.columns = p.wanted_columns(t.panel);
  if (is_8bit(s.dtype)) store.scale = static_cast<const float*>(p.panel(t.panel));
  store.bias = p.bias ? p.bias + channel : nullptr;
  store.act = act_of(p.epilogue->activation);
  store.gate = gate.empty() ? nullptr : gates;
  store.residual = residual.empty() ? nullptr
                                    : static_cast<const char*>(residual.address()) +
                                          static_cast<size_t>(at) * dtype_bytes(residual.dtype);
  store.residual_type = type_of(residual.dtype);
  store.out = static_cast<char*>(p.out->address()) + static_cast<size_t>(at) * dtype_bytes(p.out->dtype);
  store.out_type = type_of(p.out->dtype);
  store.stride = p.columns;
  kernels_.store(store);
}

// A block of rows, whose sums lie one behind the other.
void CpuBackend::store_rows(const Product& p, const Tile& t, const float* sums) {
  for (int row = 0; row < t.rows; row += kMatrixRows, sums += kMatrixRows * p.shape.columns)
    store_tile(p, {t.first + row, t.panel, std::min(kMatrixRows, t.rows - row)}, sums);
}

void CpuBackend::run_product(const Product& p) {
  int64_t panels = p.shape.panels(), blocks = ceil_div(p.rows, kBlockRows);
  pool_.parallel_for(panels * blocks, 1, [&](int64_t begin, int64_t end, int thread) {
    ThreadScratch& scratch = scratch_.of(thread);
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

void CpuBackend::linear_product(const Product& p) {
  scratch_.lay_out(linear_scratch(p.shape.k), outside_);
  if (fits_matrix(p)) return matrix_product(p);
  if (int8_products_ && p.shape.dtype == DType::kI8) return run_int8_product(p);
  run_product(p);
}

void CpuBackend::linear(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e) {
  linear_product(product_of(x, w, kernels_, out, e));
}

}  // namespace liveavatar::cpu
