// A `generate` that mpirun started: one rank of a video, of which rank 0 speaks for all.
#pragma once

#include <memory>

#include "liveavatar/liveavatar.h"
#include "parallel/group.h"

namespace liveavatar::cli {

// Whether this process is a rank other than 0: it prints nothing.
bool is_other_rank();
// The ranks that were started together; null: mpirun did not start this. Sets options.devices, and the card that is
// this rank's where options.device is "cuda".
Expected<std::unique_ptr<Group>> join_ranks(EngineOptions& options);
// The run of a rank other than 0. Returns the exit code.
int run_rank(const EngineOptions& options, Group& group);
// What the lead's run ended with: a stop may mean that another rank died.
Status end_of_run(const Status& status, Group& group);
// The last call of the lead. Returns the exit code.
int end_lead(int code, Group& group);

}  // namespace liveavatar::cli
