#include "backend/cpu/pack.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/cpu/kernel_types.h"

namespace liveavatar::cpu {
namespace {

// One output channel of a panel, at `column`.
void place_quantised(const PanelShape& s, const uint8_t* row, float scale, int64_t column, std::byte* panel) {
  std::byte* quantised = panel + s.scale_bytes() + column;
  std::memcpy(panel + static_cast<size_t>(column) * sizeof(float), &scale, sizeof(scale));
  for (int64_t k = 0; k < s.k; ++k) quantised[k * s.columns] = static_cast<std::byte>(row[k]);
}

void pack_row_8bit(const PanelShape& s, const float* values, int64_t column, std::byte* panel) {
  std::vector<uint8_t> row(static_cast<size_t>(s.k));
  float scale = quantise_8bit(values, s.k, s.dtype, row.data());
  place_quantised(s, row.data(), scale, column, panel);
}

void pack_row_q4(const PanelShape& s, const float* values, int64_t column, std::byte* panel) {
  for (int64_t first = 0; first < s.k; first += kQ4Block) {
    uint8_t quantised[kQ4Block];
    std::fill_n(quantised, kQ4Block, kQ4Zero);
    bf16 scale = quantise_q4(values + first, std::min(kQ4Block, s.k - first), quantised);
    std::byte* block = panel + s.quantised_bytes(first);
    std::memcpy(block + 2 * column, &scale, sizeof(scale));
    for (int64_t i = 0; i < kQ4Block; i += 2)
      block[2 * s.columns + i / 2 * s.columns + column] =
          static_cast<std::byte>(quantised[i] | (quantised[i + 1] << 4));
  }
}

void pack_quantised(const Tensor& rows, const PanelShape& s, std::byte* panel) {
  std::vector<float> values(static_cast<size_t>(s.k));
  for (int64_t i = 0; i < rows.dim(0); ++i) {
    convert_to_f32(rows.slice(i, 1).address(), rows.dtype, values.data(), s.k);
    if (s.dtype == DType::kQ4) {
      pack_row_q4(s, values.data(), i, panel);
    } else {
      pack_row_8bit(s, values.data(), i, panel);
    }
  }
}

// Converts some k of all rows at a time, then transposes them with vectors.
void pack_floats(const Kernels& kernels, const Tensor& rows, const PanelShape& s, std::byte* panel) {
  constexpr int64_t kDepth = 128;
  alignas(64) std::byte staged[kMostColumns][kDepth * sizeof(float)];
  const void* pointers[kMostColumns];
  Type from = type_of(rows.dtype);
  Type to = type_of(s.dtype);
  int64_t of_item = to == Type::kF32 ? 1 : 2;  // k of an item of 32 bits
  int64_t bytes = 4 / of_item;
  std::memset(staged, 0, sizeof(staged));  // padding columns
  for (int64_t i = 0; i < s.columns; ++i) pointers[i] = staged[i];
  for (int64_t k = 0; k < s.k; k += kDepth) {
    int64_t depth = std::min(kDepth, s.k - k);
    int64_t items = ceil_div(depth, of_item);
    for (int64_t i = 0; i < rows.dim(0); ++i) {
      const char* row =
          static_cast<const char*>(rows.address()) + static_cast<size_t>(i * s.k + k) * dtype_bytes(rows.dtype);
      kernels.activate({row, from}, depth, Activation::kNone, staged[i], to);
      std::memset(staged[i] + depth * bytes, 0,
                  static_cast<size_t>(items * 4 - depth * bytes));  // pairs the last odd k
    }
    kernels.transpose(pointers, s.columns, items, panel, s.columns);
    panel += items * s.columns * 4;
  }
}

// One panel of a linear weight.
void pack_panel(const Kernels& kernels, const Tensor& weight, const PanelShape& s, int64_t panel, std::byte* to) {
  const Tensor rows = weight.slice(panel * s.columns, std::min<int64_t>(s.columns, s.n - panel * s.columns));
  if (!is_quantised(s.dtype)) return pack_floats(kernels, rows, s, to);
  std::memset(to, 0, s.panel_bytes());  // padding columns have scale zero
  pack_quantised(rows, s, to);
}

void pack_panel_prequantised(const Tensor& quantised, std::span<const float> scales, const PanelShape& s, int64_t panel,
                             std::byte* to) {
  int64_t first = panel * s.columns;
  int64_t rows = std::min<int64_t>(s.columns, s.n - first);
  std::memset(to, 0, s.panel_bytes());
  for (int64_t i = 0; i < rows; ++i) {
    const auto* row = static_cast<const uint8_t*>(quantised.address()) + (first + i) * s.k;
    place_quantised(s, row, scales[static_cast<size_t>(first + i)], i, to);
  }
}

// pack(panel, target) on all threads.
template <typename Pack>
void each_panel(ThreadPool& pool, const PanelShape& s, void* target, Pack&& pack) {
  pool.parallel_for(s.panels(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      pack(i, static_cast<std::byte*>(target) + static_cast<size_t>(i) * s.panel_bytes());
  });
}

}  // namespace

PanelShape linear_shape(int64_t n, int64_t k, DType dtype, int columns) {
  return {.columns = columns, .dtype = dtype, .taps = 1, .k = k, .n = n, .groups = 1};
}

PanelShape panel_shape(const LinearWeight& w, int columns) { return linear_shape(w.n, w.k, w.dtype, columns); }

PanelShape panel_shape(const ConvWeight& w, int columns) {
  return {.columns = columns,
          .dtype = w.dtype,
          .taps = w.kernel[0] * w.kernel[1] * w.kernel[2],
          .k = w.in_channels / w.groups,
          .n = w.out_channels / w.groups,
          .groups = w.groups};
}

void pack_linear(const Kernels& kernels, ThreadPool& pool, const Tensor& weight, const PanelShape& s, void* target) {
  each_panel(pool, s, target, [&](int64_t i, std::byte* to) { pack_panel(kernels, weight, s, i, to); });
}

void pack_prequantised(ThreadPool& pool, const Tensor& quantised, std::span<const float> scales, const PanelShape& s,
                       void* target) {
  each_panel(pool, s, target, [&](int64_t i, std::byte* to) { pack_panel_prequantised(quantised, scales, s, i, to); });
}

void pack_conv(const Tensor& weight, const PanelShape& s, void* target) {
  std::memset(target, 0, s.bytes());
  auto value = [&weight](int64_t i) {
    return weight.dtype == DType::kF32 ? static_cast<const float*>(weight.address())[i]
                                       : to_f32(static_cast<const bf16*>(weight.address())[i]);
  };
  int64_t depth = s.dtype == DType::kF32 ? s.k : ceil_div(s.k, 2);
  for (int64_t row = 0; row < s.groups * s.n; ++row) {
    int64_t group = row / s.n;
    int64_t n = row % s.n;
    int64_t column = n % s.columns;
    int64_t panel_index = group * s.panels() + n / s.columns;
    char* panel = static_cast<char*>(target) + static_cast<size_t>(panel_index) * s.panel_bytes();
    for (int64_t tap = 0; tap < s.taps; ++tap) {
      for (int64_t k = 0; k < s.k; ++k) {
        float v = value((row * s.k + k) * s.taps + tap);
        if (s.dtype == DType::kF32) {
          reinterpret_cast<float*>(panel)[(tap * depth + k) * s.columns + column] = v;
        } else {
          reinterpret_cast<bf16*>(panel)[((tap * depth + k / 2) * s.columns + column) * 2 + k % 2] = to_bf16(v);
        }
      }
    }
  }
}

}  // namespace liveavatar::cpu
