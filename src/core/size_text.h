// Sizes of memory in messages, so that a limit and what is held against it never contradict each other.
#pragma once

#include <cstddef>
#include <string>

namespace liveavatar {

// "75 MiB", rounded up.
std::string mib(size_t bytes);

// "75MiB"; a limit between two MiB with its bytes too, "75.999MiB (79691775 bytes)"; below 1 MiB "512 bytes".
std::string limit_text(size_t bytes);

// "76MiB", rounded up; with more digits, or in bytes, where it is within the limit and would seem beyond it.
std::string need_text(size_t bytes, size_t limit);

}  // namespace liveavatar
