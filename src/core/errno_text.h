// errno in words, with what a user can do.
#pragma once

#include <string>

namespace liveavatar {

// "raise the limit of open files (ulimit -n)" where the error is a limit of the process; else `otherwise`.
std::string errno_advice(int error, const std::string& otherwise);

// "(Too many open files); raise the limit of open files (ulimit -n)".
std::string errno_text(int error, const std::string& otherwise);

}  // namespace liveavatar
