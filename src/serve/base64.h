// Base64 (RFC 4648, with + and /).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace liveavatar::serve {

// A "data:...;base64," before it is skipped, and so is white space. Empty: it is no base64.
std::optional<std::string> base64_decoded(std::string_view text);

}  // namespace liveavatar::serve
