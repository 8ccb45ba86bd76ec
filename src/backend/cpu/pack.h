// Packed weights: micro-panels of `columns` (NR) output channels, zero-filled at the edge. Inside a panel, for each
// tap:
//   f32:  [k][columns]
//   bf16: [k / 2 rounded up][columns][2], pairs of k, the last odd k paired with zero
// A linear weight has one tap; a convolution has one for each kernel position, and panels for each group.
// Quantised linear weights (core/quantise.h) are unpacked to a bf16 panel, exactly, one KC block at a time:
//   i8, f8: scales f32 [columns], then values [k rounded up to even][columns]
//   q4:     for 32 k: scales bf16 [columns], then [16][columns] bytes, the even k in the low nibble
#pragma once

#include <span>

#include "backend/cpu/kernels.h"
#include "backend/types.h"
#include "core/quantise.h"
#include "core/rounding.h"
#include "core/threads.h"

namespace liveavatar::cpu {

struct PanelShape {
  int columns = 16;
  DType dtype = DType::kF32;
  int64_t taps = 1, k = 0, n = 0;  // n output channels of a group
  int64_t groups = 1;

  int64_t panels() const { return ceil_div(n, columns); }
  size_t panel_bytes() const {
    if (is_quantised(dtype)) return scale_bytes() + quantised_bytes(k);
    int64_t depth = dtype == DType::kF32 ? k : ceil_div(k, 2);
    return static_cast<size_t>(taps * depth * columns) * 4;
  }
  // Of a quantised panel: bytes of the scales in front, and bytes of the values of `depth` k (whole blocks or all).
  size_t scale_bytes() const { return dtype == DType::kQ4 ? 0 : static_cast<size_t>(columns) * sizeof(float); }
  size_t quantised_bytes(int64_t depth) const {
    if (dtype == DType::kQ4) return static_cast<size_t>(ceil_div(depth, kQ4Block) * columns) * (2 + kQ4Block / 2);
    return static_cast<size_t>(round_up(depth, 2) * columns);
  }
  size_t bytes() const { return static_cast<size_t>(groups * panels()) * panel_bytes(); }
};

PanelShape linear_shape(int64_t n, int64_t k, DType dtype, int columns);
PanelShape panel_shape(const LinearWeight& w, int columns);
PanelShape panel_shape(const ConvWeight& w, int columns);

// A convolution's weight: [groups * n][k][taps], f32 or bf16, row-major.
void pack_conv(const Tensor& weight, const PanelShape& shape, void* target);

// A linear weight, [n][k], f32 or bf16.
void pack_linear(const Kernels& kernels, ThreadPool& pool, const Tensor& weight, const PanelShape& shape, void* target);
// Rows that are already 8-bit values, [n][k], with a scale for each row.
void pack_prequantised(ThreadPool& pool, const Tensor& quantised, std::span<const float> scales,
                       const PanelShape& shape, void* target);

}  // namespace liveavatar::cpu
