#include "backend/cpu/product.h"

#include <algorithm>

#include "backend/cpu/kernel_types.h"

namespace liveavatar::cpu {

namespace {

// gates[r]: the gate of row t.first + r at `channel`. Rows of out are in equal groups, with a row of the gate for each.
void find_gates(const Product& p, const Tile& t, int64_t channel, const float** gates) {
  const Tensor& gate = p.epilogue->gate;
  int64_t group_rows = p.rows / gate.dim(0);
  int64_t group = t.first / group_rows;
  int64_t next = (group + 1) * group_rows - t.first;  // the row of the tile that begins the next group
  for (int r = 0; r < t.rows; ++r) {
    if (r == next) {
      ++group;
      next += group_rows;
    }
    gates[r] = gate.host<float>() + group * gate.dim(1) + channel;
  }
}

}  // namespace

Unpack unpack_of(const Kernels& kernels, DType quantised) {
  LA_CHECK(is_quantised(quantised));
  if (quantised == DType::kI8) return kernels.unpack_i8;
  if (quantised == DType::kQ4) return kernels.unpack_q4;
  return kernels.unpack_f8;
}

void store_tile(const Kernels& kernels, const Product& p, const Tile& t, const float* acc) {
  const PanelShape& s = p.shape;
  int64_t group = t.panel / s.panels();
  int64_t channel = group * s.n + t.panel % s.panels() * s.columns;
  int64_t element = t.first * p.columns + channel;  // of out
  const Tensor& residual = p.epilogue->residual;
  const float* gates[kMatrixRows];
  StoreArgs store;
  store.acc = acc;
  store.rows = t.rows;
  store.columns = p.wanted_columns(t.panel);
  if (is_8bit(s.dtype)) store.scale = static_cast<const float*>(p.panel(t.panel));
  if (p.bias) store.bias = p.bias + channel;
  store.activation = kernel_activation(p.epilogue->activation);
  if (!p.epilogue->gate.empty()) {
    find_gates(p, t, channel, gates);
    store.gate = gates;
  }
  if (!residual.empty()) {
    store.residual =
        static_cast<const char*>(residual.address()) + static_cast<size_t>(element) * dtype_bytes(residual.dtype);
    store.residual_type = type_of(residual.dtype);
  }
  store.out = static_cast<char*>(p.out->address()) + static_cast<size_t>(element) * dtype_bytes(p.out->dtype);
  store.out_type = type_of(p.out->dtype);
  store.stride = p.columns;
  kernels.store(store);
}

void store_rows(const Kernels& kernels, const Product& p, const Tile& t, const float* acc) {
  for (int row = 0; row < t.rows; row += kMatrixRows) {
    store_tile(kernels, p, {t.first + row, t.panel, std::min(kMatrixRows, t.rows - row)}, acc);
    acc += kMatrixRows * p.shape.columns;
  }
}

}  // namespace liveavatar::cpu
