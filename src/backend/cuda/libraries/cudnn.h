// NVIDIA's cuDNN: convolutions in bf16 that reach what a card's tensor cores can.
#pragma once

#include "backend/cuda/library.h"

namespace liveavatar::cuda {

// As open_cublaslt().
Expected<std::unique_ptr<ConvLibrary>> open_cudnn(int device);

}  // namespace liveavatar::cuda
