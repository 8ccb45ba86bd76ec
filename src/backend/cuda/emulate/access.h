// A load or store of a kernel's thread, and the words in which a finding about it is told.
#pragma once

#include <string>

#include "backend/cuda/emulate/emulate.h"

namespace liveavatar::cuda::emulate {

// A line of a kernel: known from the call itself, or only as the address of an instruction.
class Place {
 public:
  Place(const Where& where) : where_(&where) {}  // NOLINT: implicit; `where` must outlive this
  explicit Place(const void* instruction) : instruction_(instruction) {}
  std::string text() const;  // "gemm.cuh:42", or "?"

 private:
  const Where* where_ = nullptr;
  const void* instruction_ = nullptr;
};

enum class AccessKind { kRead, kWrite, kAtomic, kAsyncWrite };  // kAsyncWrite: a copy that is in flight

struct Access {
  const void* at;
  size_t bytes;
  AccessKind kind;
  Place place;

  bool writes() const { return kind != AccessKind::kRead; }
  std::string verb() const { return writes() ? "writes" : "reads"; }
};

std::string hex(size_t value);

// Of an access by a collective or a copy itself, whose kernel need not be instrumented: aligned, and in shared or
// global memory.
void check_access(const Access& access);
// Of an instrumented instruction. aligned: it must be a multiple of its size.
void check_instruction(const Access& access, bool aligned);

// Whether kernels are instrumented, so that the shadows of shared and global memory are complete.
bool is_tracing();
void start_tracing();

}  // namespace liveavatar::cuda::emulate
