// Whether a library's linear layer may take the place of our own kernel's: it has to give the same values within the
// rounding of its type, the same bits twice, and to be quicker.
#pragma once

#include <string>

#include "backend/cuda/device.h"
#include "backend/cuda/linear_class.h"

namespace liveavatar::cuda {

// What was found out of a class, and is kept (choice_file.h).
struct LinearChoice {
  std::string what;  // describe(LinearClass)
  bool by_library = false;
  double own_ms = 0, library_ms = 0;  // 0: not measured
  std::string why;
};

// Device memory for the operands.
size_t proof_bytes(const LinearClass& c);

// Runs both at the job's own shape, where a library takes the algorithm that it will take in the job. memory:
// proof_bytes(c); scratch: library_scratch_bytes(c). An error of the library is its refusal; one of the device sticks.
LinearChoice prove(const LinearClass& c, LinearLibrary& library, CudaDevice& device, void* stream, std::byte* memory,
                   std::byte* scratch);

}  // namespace liveavatar::cuda
