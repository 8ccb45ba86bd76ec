// NVIDIA's NCCL: messages between cards, over NVLink, PCIe or a network.
#pragma once

#include "backend/cuda/library.h"

namespace liveavatar::cuda {

// kUnsupported: the library was not found, or not at build time, and where it was looked for.
Expected<std::unique_ptr<LinkLibrary>> open_nccl();

}  // namespace liveavatar::cuda
