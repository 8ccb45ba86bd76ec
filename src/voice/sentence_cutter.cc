#include "voice/sentence_cutter.h"

#include <algorithm>
#include <array>

#include "core/text.h"
#include "core/utf8.h"
#include "voice/voice.h"

namespace liveavatar {
namespace {

constexpr std::array<std::string_view, 4> kAscii{".", "!", "?", "…"};
constexpr std::array<std::string_view, 5> kWide{"。", "！", "？", "．", "｡"};
constexpr std::array<std::string_view, 11> kClosing{"\"", "'", ")", "]", "*", "”", "’", "»", "」", "』", "）"};
// Before a period they end no sentence. In lower case.
constexpr std::array<std::string_view, 22> kShort{"mr",  "mrs", "ms",  "dr",  "prof", "st", "vs",  "e.g",
                                                  "i.e", "etc", "no",  "inc", "jr",   "sr", "fig", "approx",
                                                  "z.b", "bzw", "usw", "hr",  "fr",   "d.h"};

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

template <typename List>
size_t length_of_any(const List& list, std::string_view text) {
  for (const std::string_view one : list)
    if (text.starts_with(one)) return one.size();
  return 0;
}

// Quotes and brackets behind a mark belong to its sentence.
size_t end_of_closing(std::string_view text, size_t at) {
  size_t more = length_of_any(kClosing, text.substr(at));
  while (more > 0) {
    at += more;
    more = length_of_any(kClosing, text.substr(at));
  }
  return at;
}

// Of the word that ends before `end`, in lower case.
std::string word_before(std::string_view text, size_t end) {
  size_t begin = end;
  while (begin > 0 && !is_space(text[begin - 1]) && text[begin - 1] != '(') --begin;
  std::string word(text.substr(begin, end - begin));
  for (char& c : word) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return word;
}

// "Mr.", "J." and the number of a list, "1.", go on.
bool is_abbreviation(std::string_view text, size_t period) {
  const std::string word = word_before(text, period);
  if (std::find(kShort.begin(), kShort.end(), word) != kShort.end()) return true;
  const bool is_initial = word.size() == 1 && word[0] >= 'a' && word[0] <= 'z' && word[0] != 'i';
  const bool begins_line = text.substr(0, period - word.size()).find_first_not_of(" \t\r\n") == std::string::npos;
  return is_initial || (begins_line && !word.empty() && std::all_of(word.begin(), word.end(), is_digit));
}

// Where a text that is too long is cut; more than 0.
size_t forced_cut(std::string_view text) {
  const std::string_view head = text.substr(0, kMostSentenceBytes);
  constexpr size_t kLeast = kMostSentenceBytes / 3;
  for (const char* marks : {",;:", " \t\r\n"}) {
    const size_t at = head.find_last_of(marks);
    if (at != std::string_view::npos && at >= kLeast) return at + 1;
  }
  return whole_characters(text, head.size());
}

}  // namespace

bool is_speakable(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) {
    return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  });
}

// Bytes up to the end of the first sentence; 0: it is not there yet.
size_t SentenceCutter::end_of_sentence() const {
  const std::string_view text = text_;
  for (size_t at = 0; at < text.size(); ++at) {
    if (at > kMostSentenceBytes) break;
    if (text[at] == '\n' && is_speakable(text.substr(0, at))) return at + 1;
    const std::string_view rest = text.substr(at);
    const size_t wide = length_of_any(kWide, rest), mark = wide > 0 ? wide : length_of_any(kAscii, rest);
    if (mark == 0 || !is_speakable(text.substr(0, at))) continue;
    const size_t end = end_of_closing(text, at + mark);
    const bool ends = wide > 0 || (end < text.size() && is_space(text[end]));
    if (!ends || (rest[0] == '.' && is_abbreviation(text, at))) continue;
    return end;
  }
  return text.size() > kMostSentenceBytes ? forced_cut(text) : 0;
}

std::vector<std::string> SentenceCutter::push(std::string_view text) {
  text_ += text;
  std::vector<std::string> sentences;
  for (size_t end = end_of_sentence(); end > 0; end = end_of_sentence()) {
    std::string sentence = trimmed(std::string_view(text_).substr(0, end));
    if (is_speakable(sentence)) sentences.push_back(std::move(sentence));
    text_.erase(0, end);
  }
  return sentences;
}

std::string SentenceCutter::finish() {
  std::string rest = trimmed(text_);
  text_.clear();
  if (!is_speakable(rest)) rest.clear();
  return rest;
}

}  // namespace liveavatar
