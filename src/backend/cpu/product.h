// What linear and convolution have in common: rows (tokens or output pixels) times packed panels of columns.
#pragma once

#include <algorithm>

#include "backend/cpu/kernels.h"
#include "backend/cpu/pack.h"
#include "ops/types.h"

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
    return static_cast<const char*>(x->data) + static_cast<size_t>(row * row_elements + k) * dtype_bytes(x->dtype);
  }
  const void* panel(int64_t i) const {
    return static_cast<const char*>(weight) + static_cast<size_t>(i) * shape.panel_bytes();
  }
  // Output channels of a panel that are there.
  int wanted_columns(int64_t panel) const {
    return static_cast<int>(std::min<int64_t>(shape.columns, shape.n - panel % shape.panels() * shape.columns));
  }
};

// Fills it from an op's arguments; Weight: LinearWeight or ConvWeight.
template <typename Weight>
Product product_of(const Tensor& x, const Weight& w, const Kernels& kernels, const Tensor& out, const Epilogue& e) {
  Product p;
  p.shape = panel_shape(w, kernels.columns);
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

// `rows` rows of out from `first`, panel `panel`.
struct Tile {
  int64_t first = 0, panel = 0;
  int rows = 0;
};

}  // namespace liveavatar::cpu
