#include "plan/rank_plan.h"

namespace liveavatar {

// A JobShape has no part for a rank yet: the whole job (kRankShapesKnown).
JobShape rank_shape(const JobShape& job, const Placement&, int) { return job; }

Expected<MemoryPlan> plan_rank(const JobShape& job, const Placement& placement, int rank) {
  return plan_memory(rank_shape(job, placement, rank));
}

}  // namespace liveavatar
