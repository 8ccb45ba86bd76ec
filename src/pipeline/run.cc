#include "pipeline/run.h"

#include "core/boundary.h"
#include "pipeline/job_run.h"

namespace liveavatar {

Status run_job(Models& models, ResolvedJob& job, const RunCalls& calls) {
  DirectDelivery caller(calls.on_chunk, calls.on_progress);
  if (calls.ranks == nullptr) return JobRun(models, job, calls, caller).run();
  const Status status = contained("generate", [&] { return JobRun(models, job, calls, caller).run(); });
  if (status.ok()) return status;
  const Status& failed = calls.ranks->status();
  calls.ranks->abort(status);
  return failed.ok() ? status : failed;
}

}  // namespace liveavatar
