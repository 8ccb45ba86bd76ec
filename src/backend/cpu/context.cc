#include "backend/cpu/context.h"

#include "core/boundary.h"

namespace liveavatar::cpu {

CpuContext::CpuContext(const Kernels& kernels, const BackendOptions& options)
    : kernels_(kernels),
      int8_products_(kernels.quantise_row && options.int8_products),
      pool_(options.threads),
      budget_(options.budget ? *options.budget : unreserved_),
      scratch_(pool_.threads()) {}

Buffer& CpuContext::shared(size_t bytes) {
  Status grown = grow(shared_, bytes, unreserved_);
  if (!grown.ok()) throw Failure(grown);
  return shared_;
}

}  // namespace liveavatar::cpu
