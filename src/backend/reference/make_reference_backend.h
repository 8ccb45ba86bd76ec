// Plain f32 loops: the reference for tests of the other backends.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace liveavatar {

Expected<std::unique_ptr<Backend>> make_reference_backend(const BackendOptions& options);

}  // namespace liveavatar
