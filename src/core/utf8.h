// Validation of UTF-8.
#pragma once

#include <cstddef>
#include <string_view>

namespace liveavatar {

// Offset of the first byte that is not valid UTF-8 (overlong form, surrogate, above U+10FFFF, truncated). npos: all
// bytes are valid.
size_t first_not_utf8(std::string_view text);

// The number of bytes, `most` or up to three less, behind which the text can be cut between two characters. `most`
// where it is not UTF-8 there.
size_t whole_characters(std::string_view text, size_t most);

}  // namespace liveavatar
