#include "pipeline/run.h"

#include "core/boundary.h"
#include "pipeline/job_run.h"

namespace liveavatar {

namespace {

// The group fails before the run ends: what was sent to other ranks is given up then, and not waited for.
Status run_on_ranks(JobRun& run, Group& ranks) {
  const Status made = contained("generate", [&] { return run.run(); });
  if (made.ok()) return made;
  const Status failed = ranks.status();
  ranks.abort(made);
  // What the lead's own stop told the ranks says less than why it stopped.
  const bool own_stop = failed.code() == ErrorCode::kCancelled && made.code() != ErrorCode::kCancelled;
  return failed.ok() || own_stop ? made : failed;
}

}  // namespace

Status run_job(Models& models, ResolvedJob& job, const RunCalls& calls) {
  DirectDelivery caller(calls.on_chunk, calls.on_progress);
  if (calls.ranks == nullptr) return JobRun(models, job, calls, caller).run();
  const Status status = contained("generate", [&] {
    JobRun run(models, job, calls, caller);
    return run_on_ranks(run, *calls.ranks);
  });
  if (!status.ok()) calls.ranks->abort(status);  // also where there was no memory for the run
  return status;
}

}  // namespace liveavatar
