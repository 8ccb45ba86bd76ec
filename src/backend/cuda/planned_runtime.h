// A card that need not be there, for plans: everything succeeds, no memory is given and nothing is computed.
#pragma once

#include <memory>

#include "backend/cuda/runtime.h"

namespace liveavatar::cuda {

std::unique_ptr<Runtime> make_planned_runtime();

}  // namespace liveavatar::cuda
