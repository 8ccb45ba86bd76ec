// Windows-1252, both ways. The five bytes it leaves undefined stand for the C1 character of their number.
#pragma once

#include <cstdint>

namespace liveavatar {

constexpr char32_t kWindows1252[32] = {0x20ac, 0x81,   0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021,
                                       0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8d,   0x017d, 0x8f,
                                       0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
                                       0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d,   0x017e, 0x0178};

constexpr char32_t windows_1252(uint8_t byte) { return byte >= 0x80 && byte < 0xa0 ? kWindows1252[byte - 0x80] : byte; }

// The byte of a character, or -1.
constexpr int windows_1252_byte(char32_t c) {
  if (c < 0x100) return static_cast<int>(c);
  for (int i = 0; i < 32; ++i) {
    if (kWindows1252[i] == c) return 0x80 + i;
  }
  return -1;
}

}  // namespace liveavatar
