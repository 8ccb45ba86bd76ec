#include "weights/block_formats.h"

#include <bit>
#include <cmath>

namespace liveavatar {

int64_t ScaleTiles::offset_in_band(int64_t row, int64_t column) const {
  int64_t tile = column / kScaleTileColumns, r = row % kScaleTileRows;
  return tile * kScaleTileRows * kScaleTileColumns + r % 32 * 16 + r / 32 * kScaleTileColumns +
         column % kScaleTileColumns;
}

float decode_e8m0(uint8_t exponent) {
  if (exponent == 255) return std::nanf("");
  return std::ldexp(1.0f, exponent - 127);
}

float decode_e2m1(uint8_t bits) {
  constexpr float kSizes[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  float size = kSizes[bits & 7];
  return (bits & 8) != 0 ? -size : size;
}

bool is_power_of_4(int64_t n) {
  return n > 0 && (n & (n - 1)) == 0 && std::countr_zero(static_cast<uint64_t>(n)) % 2 == 0;
}

// A Kronecker product acts on one base-4 digit of the index after another.
void rotate_hadamard(std::span<float> group) {
  for (size_t step = 1; step < group.size(); step *= 4) {
    for (size_t i = 0; i < group.size(); ++i) {
      if (i / step % 4 != 0) continue;
      float* x = group.data() + i;
      float a = x[0], b = x[step], c = x[2 * step], d = x[3 * step];
      x[0] = (a + b + c - d) / 2;
      x[step] = (a + b - c + d) / 2;
      x[2 * step] = (a - b + c + d) / 2;
      x[3 * step] = (-a + b + c + d) / 2;
    }
  }
}

}  // namespace liveavatar
