// Enough stack, whatever `ulimit -s` says.
#pragma once

#include <functional>

namespace liveavatar::cli {

// Runs the program; if the limit is below what its libraries need (libx264: more than 64 KiB), on a thread with a
// stack of its own, and sets the same size for the threads that it starts. Returns the exit code.
int with_enough_stack(const std::function<int()>& program);

}  // namespace liveavatar::cli
