// HTML5 character references.
#include <algorithm>
#include <cstring>
#include <string>

#include "models/umt5/clean_text.h"
#include "models/umt5/windows_1252.h"

namespace liveavatar {
namespace {

struct Entity {
  const char* name;   // with its semicolon where it has one
  const char* value;  // UTF-8
};
constexpr Entity kEntities[] = {
#include "models/umt5/html_entities.inc"
};

const Entity* find_entity(const std::string& name) {
  auto less = [](const Entity& e, const std::string& n) { return e.name < std::string_view(n); };
  const Entity* it = std::lower_bound(std::begin(kEntities), std::end(kEntities), name, less);
  return it != std::end(kEntities) && name == it->name ? it : nullptr;
}

bool is_digit(char32_t c, bool hex) {
  return (c >= '0' && c <= '9') || (hex && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')));
}

// Code points that a numeric reference may not name; they give nothing.
bool is_forbidden(uint32_t c) {
  return (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || (c >= 0xfdd0 && c <= 0xfdef) ||
         (c & 0xfffe) == 0xfffe;
}

std::u32string numeric_value(uint64_t number) {
  if (number == 0 || (number >= 0xd800 && number <= 0xdfff) || number > 0x10ffff) return U"\uFFFD";
  uint32_t c = static_cast<uint32_t>(number);
  if (c >= 0x80 && c <= 0x9f) return {windows_1252(static_cast<uint8_t>(c))};
  if (is_forbidden(c)) return {};
  return {static_cast<char32_t>(c)};
}

// "&#...": appends the value and returns the position behind, or returns `at` when there is no number.
size_t numeric_reference(const std::u32string& text, size_t at, std::u32string& out) {
  size_t p = at + 2;
  bool hex = p < text.size() && (text[p] == 'x' || text[p] == 'X');
  if (hex) ++p;
  size_t first = p;
  uint64_t number = 0;
  for (; p < text.size() && is_digit(text[p], hex); ++p) {
    uint32_t c = text[p];
    uint64_t digit = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
    number = std::min<uint64_t>(number * (hex ? 16 : 10) + digit, 0x7fffffff);
  }
  if (p == first) return at;
  out += numeric_value(number);
  return p < text.size() && text[p] == ';' ? p + 1 : p;
}

// "&name;": the longest known name wins, with or without its semicolon.
size_t named_reference(const std::u32string& text, size_t at, std::u32string& out) {
  constexpr size_t kLongest = 32;
  std::string name;
  size_t p = at + 1;
  for (; p < text.size() && name.size() < kLongest; ++p) {
    char32_t c = text[p];
    if (c >= 0x80 || c == '\t' || c == '\n' || c == '\f' || c == ' ' || c == '<' || c == '&' || c == '#' || c == ';')
      break;
    name += static_cast<char>(c);
  }
  if (p < text.size() && text[p] == ';') name += ';';
  for (; name.size() >= 2; name.pop_back()) {
    if (const Entity* entity = find_entity(name)) {
      out += from_utf8(entity->value);
      return at + 1 + name.size();
    }
  }
  return at;
}

}  // namespace

std::u32string decode_html(const std::u32string& text) {
  std::u32string out;
  for (size_t i = 0; i < text.size();) {
    size_t next = i;
    if (text[i] == '&' && i + 1 < text.size()) {
      next = text[i + 1] == '#' ? numeric_reference(text, i, out) : named_reference(text, i, out);
    }
    if (next == i) out += text[next++];
    i = next;
  }
  return out;
}

}  // namespace liveavatar
