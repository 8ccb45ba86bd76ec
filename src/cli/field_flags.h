// The library speaks of its public fields, this program of its flags: the two, side by side.
#pragma once

#include <string>

namespace liveavatar::cli {

// A line of the library with each field in backquotes as the flag that sets it: "`weights_dtype` int8 + `size` "64*64""
// becomes "--weights_dtype int8 --size "64*64"". Other backquotes stay.
std::string in_flags(const std::string& line);

}  // namespace liveavatar::cli
