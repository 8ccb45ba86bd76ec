// Weights as the tiles read them: panels of `columns` output channels, zero-filled at the edge. Inside a panel, tap
// after tap:
//   f32:  [k][columns]
//   bf16: [k / 2 rounded up][columns][2], pairs of k, the odd one out paired with zero
// A linear weight has one tap; a convolution one per kernel position, and each group its own panels.
#pragma once

#include "ops/types.h"

namespace liveavatar::cpu {

struct PanelShape {
  int columns = 16;
  DType dtype = DType::kF32;
  int64_t taps = 1, k = 0, n = 0;  // n output channels of a group
  int64_t groups = 1;

  int64_t panels() const { return (n + columns - 1) / columns; }
  size_t panel_bytes() const {
    int64_t depth = dtype == DType::kF32 ? k : (k + 1) / 2;
    return static_cast<size_t>(taps * depth * columns) * 4;
  }
  size_t bytes() const { return static_cast<size_t>(groups * panels()) * panel_bytes(); }
};

PanelShape panel_shape(const LinearWeight& w, int columns);
PanelShape panel_shape(const ConvWeight& w, int columns);

// weight: [groups * n][k][taps] (a linear weight has taps = 1), f32 or bf16, row-major.
void pack(const Tensor& weight, const PanelShape& shape, void* target);

}  // namespace liveavatar::cpu
