// Whether a library may compute a class of convolutions (trial.h).
#pragma once

#include "backend/cuda/conv_class.h"
#include "backend/cuda/device.h"
#include "backend/cuda/library_choice.h"

namespace liveavatar::cuda {

// As for linear layers (linear_proof.h).
size_t proof_bytes(const ConvClass& c);
LibraryChoice prove(const ConvClass& c, ConvLibrary& library, CudaDevice& device, void* stream, std::byte* memory,
                    std::byte* scratch);

}  // namespace liveavatar::cuda
