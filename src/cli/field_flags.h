// Messages of the library name public fields; the program shows its flags instead.
#pragma once

#include <string>

namespace liveavatar::cli {

// A line of the library with each field in backquotes as the flag that sets it: "`weights_dtype` int8 + `size` "64*64""
// becomes "--weights_dtype int8 --size "64*64"". Other backquotes stay.
std::string in_flags(const std::string& line);

}  // namespace liveavatar::cli
