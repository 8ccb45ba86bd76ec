#include "serve/small_json.h"

namespace liveavatar::serve {
namespace {

// Of a text that is JSON; what is not is refused by the parser, which keeps nothing of it.
bool has_too_many_values(const std::string& text) {
  size_t values = 1;
  bool in_string = false;
  for (size_t i = 0; i < text.size() && values <= kMostJsonValues; ++i) {
    const char c = text[i];
    if (in_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == ',' || c == '[' || c == '{')) {
      ++values;
    }
  }
  return values > kMostJsonValues;
}

}  // namespace

Expected<nlohmann::json> parse_small_json(const std::string& text, const std::string& where) {
  if (has_too_many_values(text))
    return invalid_argument(where + " has more than " + std::to_string(kMostJsonValues) + " values; send fewer");
  auto json = parse_json(text, where);
  if (!json.ok()) return client_error(json.status());
  return json;
}

Status client_error(const Status& status) {
  if (status.code() != ErrorCode::kCorrupt) return status;
  const std::string& message = status.message();
  return invalid_argument(message.substr(0, message.rfind("; download or copy")));
}

}  // namespace liveavatar::serve
