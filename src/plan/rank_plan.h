// The memory of one rank of a video on many devices.
#pragma once

#include <string>

#include "plan/resolve_shape.h"
#include "session/placement.h"
#include "session/rank_job.h"

namespace liveavatar {

// Of the rank's part of a job, each rank with memory of its own. Keys and values stay on its device, as the time model
// takes them to; layers as far as its limits go, and where all fit none is beside them. Error: the device is unknown.
Expected<MemoryPlan> plan_rank(const JobShape& asked, const Placement& placement, int rank, const MemoryLimits& limits);

// The part of a rank other than the lead, as a run has it.
struct PlannedRank {
  RankJob job;  // within its limits
  MemoryPlan plan;
  // On its device, or what it adds where it shares the lead's host and weights.
  size_t peak_bytes() const { return job.shape.one_host ? plan.session_bytes + plan.scratch_bytes : plan.peak_bytes; }
};
// text: the lead's to_text(); models: of this rank, as for parse_rank_job().
Expected<PlannedRank> plan_rank_job(const std::string& text, const JobShape& models, int rank,
                                    const MemoryLimits& limits);

}  // namespace liveavatar
