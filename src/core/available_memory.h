// What a machine has left.
#pragma once

#include <cstddef>
#include <optional>

namespace liveavatar {

// Host memory that this process can have without driving others out: of the system (MemAvailable), or of its control
// group if that has less. None: unknown.
std::optional<size_t> available_host_bytes();

}  // namespace liveavatar
