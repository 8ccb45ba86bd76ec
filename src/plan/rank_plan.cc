#include "plan/rank_plan.h"

namespace liveavatar {

Expected<MemoryPlan> plan_rank(const JobShape& asked, const Placement& placement, int rank,
                               const MemoryLimits& limits) {
  JobShape shape = rank_shape(asked, placement, rank);
  shape.one_host = false;
  shape.resident_kv_caches = shape.kv_caches().count();
  LA_ASSIGN_OR_RETURN(shape, resolve_shape(shape, limits));
  return plan_memory(shape);
}

}  // namespace liveavatar
