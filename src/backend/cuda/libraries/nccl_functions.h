// What we call of NCCL. nccl.h gives the types alone: the functions come from a library that was opened at run time, or
// are a test's.
#pragma once

#include <nccl.h>

#include "backend/cuda/library.h"

namespace liveavatar::cuda {

struct NcclFunctions {
  decltype(&::ncclGetVersion) version;
  decltype(&::ncclGetErrorString) error_text;
  decltype(&::ncclGetLastError) last_error;
  decltype(&::ncclGetUniqueId) make_id;
  decltype(&::ncclCommInitRankConfig) join;
  decltype(&::ncclCommGetAsyncError) state;
  decltype(&::ncclCommFinalize) finalize;
  decltype(&::ncclCommDestroy) destroy;
  decltype(&::ncclCommAbort) abort;
  decltype(&::ncclGroupStart) begin_group;
  decltype(&::ncclGroupEnd) end_group;
  decltype(&::ncclSend) send;
  decltype(&::ncclRecv) receive;
};

std::unique_ptr<LinkLibrary> make_nccl(const NcclFunctions& functions);

}  // namespace liveavatar::cuda
