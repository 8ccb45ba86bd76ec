// The backends by name.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"

namespace liveavatar {

// Four for each CPU that this process may use: waiting threads spin, so many more make a job very slow (1024 on two
// CPUs: 68 s instead of 0.5 s).
int most_threads();

// device: "reference" or "cpu". An unknown device, or an ISA that this machine lacks, is an error that lists the
// choices. The number of threads is limited to most_threads().
Expected<std::unique_ptr<Backend>> make_backend(const std::string& device, const BackendOptions& options);

}  // namespace liveavatar
