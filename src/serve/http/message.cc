#include "serve/http/message.h"

#include <algorithm>
#include <charconv>

namespace liveavatar::http {

std::string_view Request::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return {};
}

bool Request::announces_body() const {
  const std::string_view length = header("content-length");
  return !header("transfer-encoding").empty() || length.find_first_not_of('0') != std::string_view::npos;
}

Expected<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      unsigned value = 0;
      const std::string_view digits = text.substr(i + 1, 2);
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
      if (digits.size() < 2 || error != std::errc() || end != digits.data() + 2)
        return invalid_argument("the path has a % without two hexadecimal digits");
      c = static_cast<char>(value);
      i += 2;
    }
    if (c == '\0') return invalid_argument("the path has a NUL");
    decoded += c;
  }
  return decoded;
}

std::string query_value(const std::string& query, std::string_view name) {
  std::string_view rest = query;
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    const size_t equals = pair.find('=');
    if (pair.substr(0, equals) != name || equals == std::string_view::npos) continue;
    std::string text(pair.substr(equals + 1));
    std::replace(text.begin(), text.end(), '+', ' ');  // as forms write it
    auto value = percent_decoded(text);
    return value.ok() ? *value : std::string();
  }
  return {};
}

}  // namespace liveavatar::http
