// Whether a library may compute a class of linear layers (trial.h).
#pragma once

#include "backend/cuda/device.h"
#include "backend/cuda/library_choice.h"
#include "backend/cuda/linear_class.h"

namespace liveavatar::cuda {

// Device memory for the operands.
size_t proof_bytes(const LinearClass& c);

// Runs both at the job's own shape, where a library takes the algorithm that it will take in the job. memory:
// proof_bytes(c); scratch: library_scratch_bytes(c). An error of the library is its refusal; one of the device sticks.
LibraryChoice prove(const LinearClass& c, LinearLibrary& library, CudaDevice& device, void* stream, std::byte* memory,
                    std::byte* scratch);

}  // namespace liveavatar::cuda
