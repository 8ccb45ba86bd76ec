// Room on the stack, whatever `ulimit -s` says.
#pragma once

#include <functional>

namespace liveavatar::cli {

// Runs the program; where the limit is below what its libraries take (libx264: more than 64 KiB), on a thread with a
// stack of its own, and gives the threads that it starts as much. Returns the exit code.
int with_enough_stack(const std::function<int()>& program);

}  // namespace liveavatar::cli
