// The backends by name.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"

namespace liveavatar {

// Four on each CPU that this process may use: waiting threads spin, and with many more the job crawls (1024 on two
// CPUs: 68 s instead of 0.5).
int most_threads();

// device: "reference" or "cpu". An unknown device, or an ISA that this machine lacks, is an error that lists the
// choices. More threads than most_threads() become as many.
Expected<std::unique_ptr<Backend>> make_backend(const std::string& device, const BackendOptions& options);

}  // namespace liveavatar
