// NCCL between threads of this process, on the emulated device: its functions as a library has them, right or wrong in
// the way that they are told to be.
#pragma once

#include <atomic>

#include "backend/cuda/libraries/nccl_functions.h"

namespace liveavatar::cuda {

// What is common to all communicators that exist; one test at a time.
struct StandInNccl {
  std::atomic<int> refuses_rank = -1;    // this rank's ncclCommInitRankConfig() fails
  std::atomic<int> fails_after = -1;     // groups, then every communicator has ncclRemoteError; -1: never
  std::atomic<int> channels = 0;         // that the last communicator may have
  std::atomic<int> groups = 0;           // so far, of all ranks
  std::atomic<int> ended = 0, died = 0;  // communicators, by ncclCommDestroy() and ncclCommAbort()
};
StandInNccl& stand_in_nccl();

// Calls begin their work and ncclCommGetAsyncError() does it, as of a communicator that does not block.
NcclFunctions stand_in_functions();

}  // namespace liveavatar::cuda
