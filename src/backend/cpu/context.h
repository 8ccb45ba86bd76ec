// Shared state of the CPU backend's ops: kernels, threads and scratch memory.
#pragma once

#include "backend/backend.h"
#include "backend/cpu/scratch.h"
#include "core/threads.h"

namespace liveavatar::cpu {

class CpuContext {
 public:
  CpuContext(const Kernels& kernels, const BackendOptions& options);

  const Kernels& kernels() const { return kernels_; }
  // Requested, and supported here.
  bool int8_products() const { return int8_products_; }
  ThreadPool& pool() const { return pool_; }
  int threads() const { return pool_.threads(); }

  // Memory for ops of these sizes, charged to the backend's budget.
  Status reserve(const ScratchSizes& sizes) { return scratch_.reserve(sizes, budget_); }
  Status reserve_shared(size_t bytes) { return grow(shared_, bytes, budget_); }
  void release_scratch() {
    scratch_.release();
    shared_ = Buffer();
  }
  // The most that ops took without a reservation; of a backend without a budget, all.
  size_t unreserved_bytes() const { return unreserved_.peak_bytes(); }

  // Begins an op: the last op's scratch is lost. Memory that was not reserved is allocated now; throws
  // Failure where there is none.
  void begin(const ScratchSizes& sizes) { scratch_.allocate(sizes, unreserved_); }
  ThreadScratch& scratch(int thread) { return scratch_.of(thread); }
  const ScratchBuffers& common_scratch() const { return scratch_.common(); }

  // One block of memory that all threads read, at least so many bytes: attention's packed keys and values, or the
  // packed rows of a linear layer. Taken as begin() takes it.
  Buffer& shared(size_t bytes);

 private:
  const Kernels& kernels_;
  bool int8_products_;
  mutable ThreadPool pool_;  // packs weights, too
  Budget unreserved_;
  Budget& budget_;
  Scratch scratch_;
  Buffer shared_;
};

}  // namespace liveavatar::cpu
