// NVIDIA's cuBLASLt: linear layers in bf16 that reach what a card's tensor cores can, with its wgmma and tcgen05.
#pragma once

#include "backend/cuda/library.h"

namespace liveavatar::cuda {

// For card `device`, which exists. kUnsupported: the library was not found, or not at build time, and where it was
// looked for.
Expected<std::unique_ptr<LinearLibrary>> open_cublaslt(int device);

}  // namespace liveavatar::cuda
