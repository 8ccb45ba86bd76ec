// What a job will hold, before any weight is read: the engine's own allocations, in the order of a run, over a budget
// that only counts.
#pragma once

#include <string>
#include <vector>

#include "core/memory.h"
#include "session/job_shape.h"
#include "session/memory.h"

namespace liveavatar {

// What is held at one stage of a run: the highest moment of it, and what stays when it is over.
struct PlanStage {
  std::string name;  // "load", "portrait", "text", "image", "run"
  size_t peak_bytes = 0, after_bytes = 0;
};

struct MemoryPlan {
  size_t peak_bytes = 0;    // highest of the whole run
  size_t steady_bytes = 0;  // while blocks are made
  size_t load_peak_bytes = 0;
  size_t paged_bytes = 0;  // of weights, read from disk whenever forwards go through the layers
  // Of keys and values on disk: so much a block moves once KV caches are full, three of four slots in and one out.
  size_t kv_cache_bytes = 0;
  CategoryBytes peak_by_category{}, steady_by_category{};
  bool int8_products = false;  // asked for, and this machine can
  std::vector<PlanStage> stages;
};

// Error: the device is unknown.
Expected<MemoryPlan> plan_memory(const JobShape& request);

// Decides what a request leaves open: the schedule, and how many layers of a packed model and how many KV caches stay
// in memory: as many as the budget (0: none) has room for. What fits in no way comes back at its leanest.
Expected<JobShape> resolve_shape(const JobShape& request, size_t budget_bytes);

}  // namespace liveavatar
