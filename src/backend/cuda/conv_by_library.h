// A convolution of ours as a library computes it: in parts of equally many frames, each over an input in one piece.
// What lies in several pieces, or is to be doubled first, is copied to scratch.
#pragma once

#include "backend/cuda/conv_class.h"
#include "backend/cuda/device.h"

namespace liveavatar::cuda {

// What the library is asked for: a part of it, without addresses. The same for all parts.
LibraryConv part_of(const ConvClass& c);

// What a call needs beside its operands: the library's workspace, then an input.
size_t library_scratch_bytes(const ConvClass& c);

// An error says why the library cannot, and out is unchanged. What our own kernels report, and a failure after the
// first part, goes to the device.
Status enqueue_by_library(ConvLibrary& library, const ConvClass& c, const ConvCall& call, std::byte* scratch,
                          CudaDevice& device, void* stream);

}  // namespace liveavatar::cuda
