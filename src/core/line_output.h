// Lines of several threads or processes in one file.
#pragma once

#include <string>

namespace liveavatar {

// The line with its end in one write(), so that it stays whole beside those of others. What cannot be written is lost.
void put_line(int descriptor, std::string line);

}  // namespace liveavatar
