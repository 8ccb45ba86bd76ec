// Plain f32 loops, which the other backends are tested against.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace liveavatar {

Expected<std::unique_ptr<Backend>> make_reference_backend(const BackendOptions& options);

}  // namespace liveavatar
