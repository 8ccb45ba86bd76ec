// Whether bytes are text.
#pragma once

#include <cstddef>
#include <string_view>

namespace liveavatar {

// Where the first byte stands that is no part of UTF-8 (too long a form, a surrogate, beyond U+10FFFF, cut off); npos:
// nowhere.
size_t first_not_utf8(std::string_view text);

}  // namespace liveavatar
