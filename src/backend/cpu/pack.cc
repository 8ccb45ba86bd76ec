#include "backend/cpu/pack.h"

#include <cstring>

namespace liveavatar::cpu {

PanelShape panel_shape(const LinearWeight& w, int columns) { return {columns, w.dtype, 1, w.k, w.n, 1}; }

PanelShape panel_shape(const ConvWeight& w, int columns) {
  return {
      columns, w.dtype, w.kernel[0] * w.kernel[1] * w.kernel[2], w.in_channels / w.groups, w.out_channels / w.groups,
      w.groups};
}

void pack(const Tensor& weight, const PanelShape& s, void* target) {
  std::memset(target, 0, s.bytes());
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
