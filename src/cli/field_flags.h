// Messages of the library name public fields; the program shows its flags instead.
#pragma once

#include <string>
#include <vector>

namespace liveavatar::cli {

// What a user wrote is no field, whatever backquotes are in it: these texts stay in what in_flags() shows.
void keep_texts(const std::vector<std::string>& args);

// A line of the library with each field in backquotes as the flag that sets it: "`weights_dtype` int8 + `size` "64*64""
// becomes "--weights_dtype int8 --size "64*64"". Other backquotes stay. One line: control
// characters become "?".
std::string in_flags(const std::string& line);

}  // namespace liveavatar::cli
