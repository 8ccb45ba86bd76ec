// Validation of UTF-8.
#pragma once

#include <cstddef>
#include <string_view>

namespace liveavatar {

// Offset of the first byte that is not valid UTF-8 (overlong form, surrogate, above U+10FFFF, truncated). npos: all
// bytes are valid.
size_t first_not_utf8(std::string_view text);

}  // namespace liveavatar
