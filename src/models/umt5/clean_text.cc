#include "models/umt5/clean_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

#include "models/umt5/windows_1252.h"

namespace liveavatar {

std::u32string from_utf8(std::string_view text) {
  std::u32string out;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (size_t i = 0; i < text.size();) {
    utf8proc_int32_t c = 0;
    utf8proc_ssize_t length = utf8proc_iterate(bytes + i, static_cast<utf8proc_ssize_t>(text.size() - i), &c);
    out += length > 0 ? static_cast<char32_t>(c) : U'\uFFFD';
    i += length > 0 ? static_cast<size_t>(length) : 1;
  }
  return out;
}

std::string to_utf8(const std::u32string& text) {
  std::string out;
  for (char32_t c : text) {
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
    out.append(reinterpret_cast<char*>(bytes), static_cast<size_t>(length));
  }
  return out;
}

namespace {

// \s of Python's regex module.
bool is_space(char32_t c) {
  return (c >= 0x9 && c <= 0xd) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_removed_control(char32_t c) {
  return c <= 0x8 || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || (c >= 0x206a && c <= 0x206f) || c == 0xfeff ||
         (c >= 0xfff9 && c <= 0xfffc);
}

// ESC [ numbers ; ... letter
std::u32string without_terminal_escapes(const std::u32string& text) {
  std::u32string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == 0x1b && i + 1 < text.size() && text[i + 1] == '[') {
      size_t p = i + 2;
      while (p < text.size() && ((text[p] >= '0' && text[p] <= '9') || text[p] == ';')) ++p;
      if (p < text.size() && ((text[p] >= 'a' && text[p] <= 'z') || (text[p] >= 'A' && text[p] <= 'Z'))) {
        i = p;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}

// UTF-8 that somebody read as Windows-1252: a lead and its continuations become the character they meant.
size_t mojibake_length(const std::u32string& text, size_t at) {
  int lead = windows_1252_byte(text[at]);
  size_t length = lead == 0xc2 || lead == 0xc3 ? 2 : lead == 0xe2 ? 3 : lead == 0xf0 ? 4 : 0;
  if (length == 0 || at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    int byte = windows_1252_byte(text[at + i]);
    if (byte < 0x80 || byte > 0xbf) return 0;
  }
  // Behind a capital these are punctuation and a letter that people type; the original leaves them as well.
  const char32_t second = text[at + 1];
  if (length == 2 && (second == 0x2026 || second == 0x2019 || second == 0x17d)) return 0;
  return length;
}

std::u32string reread_mojibake(const std::u32string& text) {
  std::u32string out;
  for (size_t i = 0; i < text.size();) {
    size_t length = mojibake_length(text, i);
    if (length == 0) {
      out += text[i++];
      continue;
    }
    std::string bytes;
    for (size_t k = 0; k < length; ++k) bytes += static_cast<char>(windows_1252_byte(text[i + k]));
    out += from_utf8(bytes);
    i += length;
  }
  return out;
}

struct Ligature {
  char32_t c;
  const char32_t* letters;
};
constexpr Ligature kLigatures[] = {
    {0x132, U"IJ"},      {0x133, U"ij"},      {0x149, U"'n"},       {0x1f1, U"DZ"},  {0x1f2, U"Dz"},  {0x1f3, U"dz"},
    {0x1c4, U"D\u017d"}, {0x1c5, U"D\u017e"}, {0x1c6, U"d\u017e"},  {0x1c7, U"LJ"},  {0x1c8, U"Lj"},  {0x1c9, U"lj"},
    {0x1ca, U"NJ"},      {0x1cb, U"Nj"},      {0x1cc, U"nj"},       {0xfb00, U"ff"}, {0xfb01, U"fi"}, {0xfb02, U"fl"},
    {0xfb03, U"ffi"},    {0xfb04, U"ffl"},    {0xfb05, U"\u017ft"}, {0xfb06, U"st"}};

std::u32string normalised(const std::u32string& text, utf8proc_option_t options) {
  std::string utf8 = to_utf8(text);
  utf8proc_uint8_t* mapped = nullptr;
  utf8proc_ssize_t length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(utf8.data()),
                                         static_cast<utf8proc_ssize_t>(utf8.size()), &mapped, options);
  if (length < 0) return text;
  std::u32string out = from_utf8({reinterpret_cast<const char*>(mapped), static_cast<size_t>(length)});
  std::free(mapped);
  return out;
}

// Runs of combining marks in canonical order. NFC gives the same afterwards, but utf8proc's own sort is quadratic.
void order_marks(std::u32string& text) {
  auto mark_class = [](char32_t c) { return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class; };
  auto is_mark = [&](char32_t c) { return mark_class(c) > 0; };
  for (auto first = text.begin(); first != text.end();) {
    first = std::find_if(first, text.end(), is_mark);
    auto last = std::find_if_not(first, text.end(), is_mark);
    std::stable_sort(first, last, [&](char32_t x, char32_t y) { return mark_class(x) < mark_class(y); });
    first = last;
  }
}

// One character through the tables that look at nothing else.
void append_repaired(char32_t c, std::u32string& out) {
  if (c >= 0x80 && c <= 0x9f) c = windows_1252(static_cast<uint8_t>(c));
  for (const Ligature& ligature : kLigatures) {
    if (ligature.c == c) {
      out += ligature.letters;
      return;
    }
  }
  if (c >= 0xff01 && c <= 0xffef) {
    constexpr auto kNfkc = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
    out += normalised({c}, kNfkc);
    return;
  }
  if (c == 0x2bc || (c >= 0x2018 && c <= 0x201b)) c = '\'';
  if (c >= 0x201c && c <= 0x201f) c = '"';
  if (c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x85) c = '\n';
  if (!is_removed_control(c)) out += c;
}

std::u32string repaired(std::u32string text) {
  if (text.find(U'<') == std::u32string::npos) text = decode_html(text);
  std::u32string out;
  for (char32_t c : reread_mojibake(without_terminal_escapes(text))) append_repaired(c, out);
  order_marks(out);
  return normalised(out, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
}

std::u32string folded(const std::u32string& text) {
  std::u32string out;
  for (char32_t c : text) {
    if (!is_space(c)) {
      out += c;
    } else if (!out.empty() && out.back() != ' ') {
      out += ' ';
    }
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

std::string clean_text(std::string_view text) {
  std::u32string clean = repaired(from_utf8(text));
  return to_utf8(folded(decode_html(decode_html(clean))));
}

}  // namespace liveavatar
