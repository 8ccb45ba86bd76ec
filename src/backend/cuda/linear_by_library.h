// A linear layer of ours as a library computes it: with the epilogue as far as the library has it, or as a product in
// f32 that a kernel of ours finishes.
#pragma once

#include "backend/cuda/device.h"
#include "backend/cuda/linear_class.h"

namespace liveavatar::cuda {

// What a call needs beside its operands: the library's workspace, then the product or the bias in bf16.
size_t library_scratch_bytes(const LinearClass& c);

// An error says why the library cannot, and out is unchanged. What our own kernels report goes to the device.
Status enqueue_by_library(LinearLibrary& library, const LinearClass& c, const LinearCall& call, std::byte* scratch,
                          CudaDevice& device, void* stream);

}  // namespace liveavatar::cuda
