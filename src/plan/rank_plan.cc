#include "plan/rank_plan.h"

namespace liveavatar {

Expected<MemoryPlan> plan_rank(const JobShape& asked, const Placement& placement, int rank,
                               const MemoryLimits& limits) {
  JobShape shape = rank_shape(asked, placement, rank);
  shape.one_host = false;
  shape.resident_kv_caches = shape.kv_caches().count();
  if (shape.layers_in_host || shape.pack_first) {  // as drop_idle_paging() for a run
    JobShape whole = shape;
    whole.packed = whole.pack_first = whole.layers_in_host = false;
    LA_ASSIGN_OR_RETURN(whole, resolve_shape(whole, limits));
    LA_ASSIGN_OR_RETURN(const MemoryPlan plan, plan_memory(whole));
    if (limits.keeps({plan, {}})) return plan;
  }
  LA_ASSIGN_OR_RETURN(shape, resolve_shape(shape, limits));
  return plan_memory(shape);
}

Expected<PlannedRank> plan_rank_job(const std::string& text, const JobShape& models, int rank,
                                    const MemoryLimits& limits) {
  PlannedRank planned;
  LA_ASSIGN_OR_RETURN(planned.job, parse_rank_job(text, models, rank));
  if (!planned.job.shape.one_host) {
    LA_ASSIGN_OR_RETURN(planned.job.shape, resolve_shape(planned.job.shape, limits));
  }
  LA_ASSIGN_OR_RETURN(planned.plan, plan_memory(planned.job.shape));
  return planned;
}

}  // namespace liveavatar
