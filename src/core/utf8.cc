#include "core/utf8.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace liveavatar {
namespace {

struct Form {
  int bytes;             // 0: not a first byte
  uint32_t bits, least;  // payload of the first byte; the smallest code point that needs this form
};

Form form_of(unsigned char first) {
  if (first < 0x80) return {1, first, 0};
  if (first >= 0xC2 && first < 0xE0) return {2, first & 0x1Fu, 0x80};
  if (first >= 0xE0 && first < 0xF0) return {3, first & 0x0Fu, 0x800};
  if (first >= 0xF0 && first < 0xF5) return {4, first & 0x07u, 0x10000};
  return {0, 0, 0};
}

}  // namespace

size_t first_not_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    Form form = form_of(static_cast<unsigned char>(text[at]));
    size_t end = at + static_cast<size_t>(form.bytes);
    if (form.bytes == 0 || end > text.size()) return at;
    uint32_t point = form.bits;
    for (size_t i = at + 1; i < end; ++i) {
      unsigned char next = static_cast<unsigned char>(text[i]);
      if ((next & 0xC0) != 0x80) return at;
      point = point << 6 | (next & 0x3Fu);
    }
    bool surrogate = point >= 0xD800 && point <= 0xDFFF;
    if (point < form.least || surrogate || point > 0x10FFFF) return at;
    at = end;
  }
  return std::string_view::npos;
}

size_t whole_characters(std::string_view text, size_t most) {
  if (most >= text.size()) return text.size();
  auto is_inner = [&](size_t at) { return (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80; };
  for (size_t back = 0; back <= std::min<size_t>(most, 3); ++back)
    if (!is_inner(most - back)) return most - back;
  return most;
}

}  // namespace liveavatar
