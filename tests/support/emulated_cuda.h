// The CUDA backend on the emulated device. Not where the emulation cannot run: under TSan, or on other than x86-64.
#pragma once

#include <memory>

#include "session/models.h"

namespace liveavatar {

struct EmulatedCudaOptions {
  size_t memory_bytes = size_t{1} << 40;  // of the card
  uint32_t stream_seed = 0;               // of the order of streams; 0: all work as late as it may
};

// Null where the emulation cannot run.
std::unique_ptr<DeviceSource> emulated_cuda(const EmulatedCudaOptions& options = {});

}  // namespace liveavatar
