// Whether a library may compute an op in place of our own kernel: it has to give the same values within the rounding of
// its type, the same bits twice, and to be quicker.
#pragma once

#include <functional>
#include <string>

#include "backend/cuda/device.h"
#include "backend/cuda/library_choice.h"

namespace liveavatar::cuda {

struct Trial {
  std::string what;
  Output out;  // [rows, columns], kF32 or kBF16
  int64_t rows, columns;
  bool residual;                            // out holds values that the op adds to
  std::function<Status()> own, by_library;  // enqueue it; an error of the library is its refusal
};

// An error of the device sticks.
LibraryChoice try_out(const Trial& trial, CudaDevice& device, void* stream);

// Operands of a trial: `count` values in [-scale, scale), the same in every run and others for each seed.
Status write_pattern(CudaDevice& device, void* to, int64_t count, ElementType type, uint32_t seed, float scale);

// Where operands lie in the memory of a trial, aligned to 256 bytes.
class OperandLayout {
 public:
  size_t take(int64_t count, ElementType type);
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_ = 0;
};

}  // namespace liveavatar::cuda
