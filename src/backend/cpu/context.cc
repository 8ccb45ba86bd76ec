#include "backend/cpu/context.h"

#include "core/boundary.h"

namespace liveavatar::cpu {

namespace {

// A plan's backend answers questions and computes nothing.
ThreadPool::Workers workers_of(const BackendOptions& options) {
  const bool dry_run = options.budget != nullptr && options.budget->dry_run();
  return dry_run ? ThreadPool::Workers::kNone : ThreadPool::Workers::kStart;
}

}  // namespace

CpuContext::CpuContext(const Kernels& kernels, const BackendOptions& options)
    : kernels_(kernels),
      int8_products_(kernels.quantise_row && options.int8_products),
      pool_(options.threads, workers_of(options)),
      budget_(options.budget ? *options.budget : unreserved_),
      scratch_(pool_.threads()) {}

Buffer& CpuContext::shared(size_t bytes) {
  Status grown = grow(shared_, bytes, unreserved_);
  if (!grown.ok()) throw Failure(grown);
  return shared_;
}

}  // namespace liveavatar::cpu
