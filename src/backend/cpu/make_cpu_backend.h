// The backend of x86-64 CPUs: AVX2, AVX-512, AVX-512-BF16 or AMX, chosen at run time.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace liveavatar {

Expected<std::unique_ptr<Backend>> make_cpu_backend(const BackendOptions& options);

}  // namespace liveavatar
