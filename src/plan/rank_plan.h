// The memory of one rank of a video on many devices.
#pragma once

#include "plan/memory_plan.h"
#include "session/placement.h"

namespace liveavatar {

// Whether rank_shape() is the rank's own part. Until then plan_rank() is of the whole video, and nobody prints it.
constexpr bool kRankShapesKnown = false;

// The one place where a rank's part of a job is made.
JobShape rank_shape(const JobShape& job, const Placement& placement, int rank);

// Error: the device is unknown.
Expected<MemoryPlan> plan_rank(const JobShape& job, const Placement& placement, int rank);

}  // namespace liveavatar
