// Cleaning of a prompt before it is tokenised, as the original does it: text repair, HTML references, white space.
#pragma once

#include <string>
#include <string_view>

namespace liveavatar {

// Any bytes in, valid UTF-8 out (bad bytes become U+FFFD). Repairs: terminal escapes and control characters removed,
// C1 characters read as Windows-1252, UTF-8 that was once read as Windows-1252 read again (leads C2, C3, E2, F0 only),
// Latin ligatures split, full-width and half-width forms to normal width, quotes straight, NFC; then HTML5 references
// decoded twice, white space folded and stripped.
std::string clean_text(std::string_view text);

// HTML5 character references, named (longest match, semicolon optional) and numeric.
std::u32string decode_html(const std::u32string& text);

std::u32string from_utf8(std::string_view text);
std::string to_utf8(const std::u32string& text);

}  // namespace liveavatar
