// The memory of one rank of a video on many devices, each with memory of its own.
#pragma once

#include "plan/resolve_shape.h"
#include "session/placement.h"

namespace liveavatar {

// Of the rank's part of a job. Keys and values stay on its device, as the time model takes them to; layers as far as
// its limits go. Error: the device is unknown.
Expected<MemoryPlan> plan_rank(const JobShape& asked, const Placement& placement, int rank, const MemoryLimits& limits);

}  // namespace liveavatar
