// The way of a job: conditioning, then block after block is sampled, decoded, delivered and forgotten.
#pragma once

#include "pipeline/job.h"
#include "pipeline/models.h"

namespace liveavatar {

// Runs a whole job. on_block may say stop: kCancelled. An error after some blocks leaves those with the caller.
Status run_job(Models& models, const Job& job, const BlockCallback& on_block, const RunHooks& hooks);

}  // namespace liveavatar
