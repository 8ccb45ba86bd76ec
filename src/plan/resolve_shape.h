// Where a job's weights, keys and values stay, so that it keeps its limits of memory.
#pragma once

#include "plan/memory_plan.h"

namespace liveavatar {

// 0: none.
struct MemoryLimits {
  size_t device_bytes = 0;
  size_t host_bytes = 0;  // of host memory beside a card
  bool keeps(const SessionsPlan& plan) const;
};

// Of two limits, of which 0 is none.
size_t smaller_limit(size_t a, size_t b);

// Decides what a shape leaves open: the schedule, and how many layers of a packed model and how many KV caches stay on
// the device: as many as fit. Of the others as many as fit stay in host memory beside a card. If nothing fits, the
// smallest configuration is returned.
Expected<JobShape> resolve_shape(const JobShape& shape, const MemoryLimits& limits, int sessions = 1);

}  // namespace liveavatar
