// Small things done to texts in many places.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace liveavatar {

// ASCII letters only: file endings and words of flags, whatever the locale.
inline std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); });
  return text;
}

// "a, b, c"
inline std::string join(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ", ") + item;
  return text;
}

}  // namespace liveavatar
