// Common parts of linear and convolution: rows (tokens or output pixels) times packed micro-panels.
#pragma once

#include <algorithm>
#include <cstring>

#include "backend/cpu/pack.h"
#include "backend/types.h"

namespace liveavatar::cpu {

struct Product {
  PanelShape shape;
  const void* weight = nullptr;
  const float* bias = nullptr;
  const Tensor* x = nullptr;
  const Tensor* out = nullptr;
  const Epilogue* epilogue = nullptr;
  int64_t rows = 0, columns = 0;  // of out; columns: out channels of all groups
  int64_t row_elements = 0;       // of x

  // Element k of x's row.
  const void* operand(int64_t row, int64_t k) const {
    return static_cast<const char*>(x->address()) + static_cast<size_t>(row * row_elements + k) * dtype_bytes(x->dtype);
  }
  const void* panel(int64_t i) const {
    return static_cast<const char*>(weight) + static_cast<size_t>(i) * shape.panel_bytes();
  }
  // Output channels of a panel without padding.
  int wanted_columns(int64_t panel) const {
    return static_cast<int>(std::min<int64_t>(shape.columns, shape.n - panel % shape.panels() * shape.columns));
  }
};

// From an op's arguments. Weight: LinearWeight or ConvWeight.
template <typename Weight>
Product product_of(const Tensor& x, const Weight& w, const Kernels& kernels, const Tensor& out, const Epilogue& e) {
  Product p;
  p.shape = panel_shape(w, kernels.columns);
  p.weight = w.data;
  p.bias = static_cast<const float*>(w.bias.address());
  p.x = &x;
  p.out = &out;
  p.epilogue = &e;
  p.columns = out.dim(out.rank() - 1);
  p.rows = out.elements() / p.columns;
  p.row_elements = x.dim(x.rank() - 1);
  return p;
}

// The least number of jobs for each thread, so that a slow thread delays no other.
constexpr int64_t kJobsPerThread = 4;

// Packs a row for a matrix unit: chunks of 64 bytes, `apart` bytes from one to the next, zeros after the row's end.
inline void pack_chunks(const void* row, int64_t bytes, std::byte* to, int64_t apart) {
  const std::byte* from = static_cast<const std::byte*>(row);
  for (; bytes >= kChunkBytes; bytes -= kChunkBytes) {
    std::memcpy(to, from, kChunkBytes);
    from += kChunkBytes;
    to += apart;
  }
  if (bytes == 0) return;
  std::memcpy(to, from, static_cast<size_t>(bytes));
  std::memset(to + bytes, 0, static_cast<size_t>(kChunkBytes - bytes));
}

// A quantised panel's values to bf16: Kernels::unpack_*.
using Unpack = void (*)(const void* quantised, int64_t k, void* panel);
Unpack unpack_of(const Kernels& kernels, DType quantised);

// `rows` rows of out from `first`, panel `panel`.
struct Tile {
  int64_t first = 0, panel = 0;
  int rows = 0;
};

// Applies the epilogue to the tile's accumulators, [rows][Kernels::columns], and stores them to out.
void store_tile(const Kernels& kernels, const Product& p, const Tile& tile, const float* acc);
// The same for any number of consecutive rows.
void store_rows(const Kernels& kernels, const Product& p, const Tile& rows, const float* acc);

}  // namespace liveavatar::cpu
