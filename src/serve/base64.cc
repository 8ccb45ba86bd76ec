#include "serve/base64.h"

#include <array>
#include <cstdint>

namespace liveavatar::serve {
namespace {

constexpr int8_t kNone = -1, kSpace = -2, kEnd = -3;

constexpr std::array<int8_t, 256> make_table() {
  std::array<int8_t, 256> table{};
  for (int8_t& value : table) value = kNone;
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < kDigits.size(); ++i) table[static_cast<uint8_t>(kDigits[i])] = static_cast<int8_t>(i);
  for (const char c : {' ', '\n', '\r', '\t'}) table[static_cast<uint8_t>(c)] = kSpace;
  table[static_cast<uint8_t>('=')] = kEnd;
  return table;
}
constexpr std::array<int8_t, 256> kTable = make_table();

}  // namespace

std::optional<std::string> base64_decoded(std::string_view text) {
  if (text.starts_with("data:")) {
    const size_t comma = text.find(";base64,");
    if (comma == std::string_view::npos) return {};
    text.remove_prefix(comma + 8);
  }
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  size_t digits = 0, ends = 0;
  for (const char c : text) {
    const int8_t value = kTable[static_cast<uint8_t>(c)];
    if (value == kSpace) continue;
    if (value == kEnd) {
      ++ends;
      continue;
    }
    if (value == kNone || ends > 0) return {};
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (++digits % 4 != 0) continue;
    for (const int shift : {16, 8, 0}) bytes += static_cast<char>(bits >> shift);
  }
  const size_t rest = digits % 4;
  if (rest == 1 || ends > 2 || (ends > 0 && (digits + ends) % 4 != 0)) return {};
  if (rest >= 2) bytes += static_cast<char>(bits >> (rest == 2 ? 4 : 10));
  if (rest == 3) bytes += static_cast<char>(bits >> 2);
  return bytes;
}

}  // namespace liveavatar::serve
