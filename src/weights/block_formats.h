// The arithmetic of weights in blocks: swizzled block scales, 4-bit floats, the Hadamard rotation.
#pragma once

#include <cstdint>
#include <span>

namespace liveavatar {

// Block scales are in tiles of 128 rows x 4 columns, with rows and columns padded with zeros. A tile has 32 rows of 16
// bytes, with four rows of scales side by side (the layout of NVIDIA's matrix units).
constexpr int64_t kScaleTileRows = 128, kScaleTileColumns = 4;
struct ScaleTiles {
  int64_t rows = 0, columns = 0;  // of scales, without padding

  int64_t tiles_down() const { return (rows + kScaleTileRows - 1) / kScaleTileRows; }
  int64_t tiles_across() const { return (columns + kScaleTileColumns - 1) / kScaleTileColumns; }
  int64_t band_bytes() const { return tiles_across() * kScaleTileRows * kScaleTileColumns; }  // 128 rows
  int64_t bytes() const { return tiles_down() * band_bytes(); }
  // Offset of the scale (row % 128, column) inside its band of 128 rows.
  int64_t offset_in_band(int64_t row, int64_t column) const;
};

// 2^(exponent - 127); 255 is NaN.
float decode_e8m0(uint8_t exponent);
// Sign, two bits of exponent, one of mantissa: 0 .5 1 1.5 2 3 4 6.
float decode_e2m1(uint8_t code);
// group.size() is a power of 4. group <- group times the normalised regular Hadamard matrix H4 (x) H4 (x) ..., with
// H4 = [1 1 1 -1; 1 1 -1 1; 1 -1 1 1; -1 1 1 1] / 2: symmetric and its own inverse.
void rotate_hadamard(std::span<float> group);
bool is_power_of_4(int64_t n);

}  // namespace liveavatar
