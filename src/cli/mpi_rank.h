// A `generate` that mpirun started: one rank of a video, of which rank 0 speaks for all.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "cli/stop_signal.h"
#include "liveavatar/liveavatar.h"
#include "parallel/group.h"

namespace liveavatar::cli {

// Whether this process is a rank other than 0: it prints nothing that the lead prints.
bool is_other_rank();
// Before an error is printed that comes before the ranks have joined; else it is "". The lead, whose command line is
// the same as a rule, may have the same error and end all, which ends another process here with `code`. If it does not:
// "rank 1 (node2): ".
std::string name_before_join(int code);
// The ranks that were started together; null: mpirun did not start this. Sets options.devices, and the card that is
// this rank's where options.device is "cuda".
Expected<std::unique_ptr<Group>> join_ranks(EngineOptions& options);
// The run of a rank other than 0, and the end of its process. flags: whether its command line is right.
[[noreturn]] void run_rank(const Status& flags, const EngineOptions& options, Group& group);
// Stops the lead's job when another rank fails.
class StopWithRanks {
 public:
  StopWithRanks(StopSignal& signal, Group& group)
      : callback_(group.failure_token(), [&signal] { signal.request_stop(); }) {}

 private:
  std::stop_callback<std::function<void()>> callback_;
};
// What the lead's run ended with: a stop may mean that another rank died.
Status end_of_run(const Status& status, Group& group);
// The last call of the lead: ends the process.
[[noreturn]] void end_lead(int code, Group& group);

}  // namespace liveavatar::cli
