// Small kernels with one bug each, and correct ones beside them, which emulator_test.cc launches.
#pragma once

#include <span>

namespace liveavatar::cuda::emulated {

struct FaultyKernelOperands {
  int* a;
  int* b;
};

struct FaultyKernel {
  const char* name;
  const char* finding;  // in the words of the Fault; empty: the kernel is correct
  unsigned blocks = 1;
  void (*launch)(const FaultyKernel&, const FaultyKernelOperands&);
};

// They run with 64 threads a block and 1024 bytes of dynamic shared memory; a and b have 128 elements.
std::span<const FaultyKernel> faulty_kernels();
// b -> a, one block of 64.
void launch_copy(const FaultyKernelOperands& operands, unsigned shared_bytes);

}  // namespace liveavatar::cuda::emulated
