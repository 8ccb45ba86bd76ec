// NVIDIA cards as Runtimes.
#pragma once

#include <memory>
#include <vector>

#include "backend/cuda/runtime.h"
#include "core/status.h"

namespace liveavatar::cuda {

// The cards of this machine, by number. kUnsupported: why there is none, in one line that ends with what to do.
Expected<std::vector<Card>> find_cards();

// Card `index`. kNotFound: which there are. The driver is loaded at the first call of one of these functions.
Expected<std::unique_ptr<Runtime>> open_card(int index);

}  // namespace liveavatar::cuda
