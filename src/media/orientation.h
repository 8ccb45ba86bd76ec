// Which way is up: the EXIF orientations 1..8 (TIFF 6.0, tag 274).
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace liveavatar {

constexpr bool swaps_sides(int orientation) { return orientation >= 5; }

// Where a pixel of the upright image lies in the stored one, [height, width].
struct StoredPlace {
  int64_t y = 0, x = 0;
  StoredPlace(int64_t row, int64_t column, int orientation, int64_t height, int64_t width) {
    bool swap = swaps_sides(orientation);
    y = swap ? column : row;
    x = swap ? row : column;
    constexpr int kFlipsRows = 1 << 3 | 1 << 4 | 1 << 7 | 1 << 8, kFlipsColumns = 1 << 2 | 1 << 3 | 1 << 6 | 1 << 7;
    bool rows = (kFlipsRows >> orientation & 1) != 0, columns = (kFlipsColumns >> orientation & 1) != 0;
    if (swap) std::swap(rows, columns);
    if (rows) y = height - 1 - y;
    if (columns) x = width - 1 - x;
  }
};

// stored [height, width, kChannels] -> upright, [width, height, kChannels] where the orientation swaps the sides.
template <int kChannels>
void turn_pixels(const uint8_t* stored, int64_t height, int64_t width, int orientation, uint8_t* upright) {
  int64_t rows = swaps_sides(orientation) ? width : height, columns = swaps_sides(orientation) ? height : width;
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t x = 0; x < columns; ++x) {
      StoredPlace from(y, x, orientation, height, width);
      std::memcpy(upright, stored + (from.y * width + from.x) * kChannels, kChannels);
      upright += kChannels;
    }
  }
}

}  // namespace liveavatar
