#include "backend/cpu/pack.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace liveavatar::cpu {
namespace {

// One row of a panel; `column` is its place in it.
void pack_row_8bit(const PanelShape& s, const float* values, int64_t column, std::byte* panel) {
  std::byte* codes = panel + s.scale_bytes() + column;
  std::vector<uint8_t> row(static_cast<size_t>(s.k));
  float scale = quantise_8bit(values, s.k, s.dtype, row.data());
  std::memcpy(panel + static_cast<size_t>(column) * sizeof(float), &scale, sizeof(scale));
  for (int64_t k = 0; k < s.k; ++k) codes[k * s.columns] = static_cast<std::byte>(row[static_cast<size_t>(k)]);
}

void pack_row_q4(const PanelShape& s, const float* values, int64_t column, std::byte* panel) {
  for (int64_t first = 0; first < s.k; first += kQ4Block) {
    uint8_t codes[kQ4Block];
    std::fill_n(codes, kQ4Block, kQ4Zero);
    bf16 scale = quantise_q4(values + first, std::min(kQ4Block, s.k - first), codes);
    std::byte* block = panel + s.codes_bytes(first);
    std::memcpy(block + 2 * column, &scale, sizeof(scale));
    for (int64_t i = 0; i < kQ4Block; i += 2)
      block[2 * s.columns + i / 2 * s.columns + column] = static_cast<std::byte>(codes[i] | (codes[i + 1] << 4));
  }
}

void pack_quantised(const Tensor& weight, const PanelShape& s, void* target) {
  std::vector<float> values(static_cast<size_t>(s.k));
  for (int64_t n = 0; n < s.n; ++n) {
    std::byte* panel = static_cast<std::byte*>(target) + static_cast<size_t>(n / s.columns) * s.panel_bytes();
    convert_to_f32(weight.slice(n, 1).data, weight.dtype, values.data(), s.k);
    (s.dtype == DType::kQ4 ? pack_row_q4 : pack_row_8bit)(s, values.data(), n % s.columns, panel);
  }
}

}  // namespace

PanelShape panel_shape(const LinearWeight& w, int columns) { return {columns, w.dtype, 1, w.k, w.n, 1}; }

PanelShape panel_shape(const ConvWeight& w, int columns) {
  return {
      columns, w.dtype, w.kernel[0] * w.kernel[1] * w.kernel[2], w.in_channels / w.groups, w.out_channels / w.groups,
      w.groups};
}

void pack(const Tensor& weight, const PanelShape& s, void* target) {
  std::memset(target, 0, s.bytes());  // of columns behind the last all scales are zero
  if (is_quantised(s.dtype)) return pack_quantised(weight, s, target);
  auto value = [&weight](int64_t i) {
    return weight.dtype == DType::kF32 ? static_cast<const float*>(weight.data)[i]
                                       : to_f32(static_cast<const bf16*>(weight.data)[i]);
  };
  int64_t depth = s.dtype == DType::kF32 ? s.k : (s.k + 1) / 2;
  for (int64_t row = 0; row < s.groups * s.n; ++row) {
    int64_t group = row / s.n, n = row % s.n, column = n % s.columns;
    char* panel =
        static_cast<char*>(target) + static_cast<size_t>(group * s.panels() + n / s.columns) * s.panel_bytes();
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
