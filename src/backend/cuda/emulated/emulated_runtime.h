// The emulated device as a Runtime: kernels, copies and events of emulate/, for tests without a card.
#pragma once

#include <functional>
#include <memory>

#include "backend/cuda/runtime.h"

namespace liveavatar::cuda {

struct EmulatedCard {
  size_t memory_bytes = size_t{1} << 40;
  // 0: work runs as late as it may. Else streams run ahead in an order that depends on it (emulate/stream.h).
  uint32_t stream_seed = 0;
  std::string driver = "13.0";
  std::string slot = "0000:00:00.0";
  // Null: there is none.
  std::function<std::unique_ptr<LinearLibrary>()> linear_library;
  std::function<std::unique_ptr<ConvLibrary>()> conv_library;
  std::function<std::unique_ptr<LinkLibrary>()> link_library;
};

std::unique_ptr<Runtime> make_emulated_runtime(const EmulatedCard& card = {});

}  // namespace liveavatar::cuda
