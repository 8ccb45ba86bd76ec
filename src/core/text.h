// Small string functions.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace liveavatar {

// ASCII letters only, in any locale: for file extensions and flag values.
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
