#include "pipeline/plan_ranks.h"

#include <algorithm>

#include "ops/make_backend.h"
#include "pipeline/engine.h"
#include "plan/rank_plan.h"
#include "session/rank_devices.h"

namespace liveavatar {

EngineOptions planned_lead(const EngineOptions& options) {
  EngineOptions lead = options;
  if (resolve_lead(lead).ok()) return lead;
  const Expected<std::vector<std::string>> devices = rank_devices(options);
  if (!devices.ok()) return lead;  // check_options() says it
  take_lead_device(lead, *devices);
  const auto cards = std::count_if(devices->begin(), devices->end(), is_card);
  lead.host_budget_bytes /= static_cast<size_t>(std::max<std::ptrdiff_t>(cards, 1));
  return lead;
}

namespace {

EngineOptions planned_rank(const EngineOptions& asked, const EngineOptions& lead, const std::string& device) {
  const Expected<EngineOptions> own = resolve_rank(asked, lead, device);
  return own.ok() ? *own : rank_options(asked, lead, device);
}

}  // namespace

Expected<std::vector<RankUse>> plan_ranks(const ResolvedJob& lead, const EngineOptions& options,
                                          const EngineOptions& asked) {
  LA_ASSIGN_OR_RETURN(const std::vector<std::string> devices, rank_devices(options));
  const Placement& placement = lead.shape.placement;
  const std::string text = to_text({lead.shape, lead.sampling, placement});
  std::vector<RankUse> uses{{devices.front(), placement.text(0), lead.plan.peak_bytes, lead.plan.host.peak_bytes,
                             lead.limits.keeps({lead.plan, {}})}};
  for (int rank = 1; rank < placement.ranks(); ++rank) {
    const std::string& device = devices[static_cast<size_t>(rank)];
    // As Models::beside(), or as a rank that loads its own.
    const EngineOptions own = lead.shape.one_host ? options : planned_rank(asked, options, device);
    JobShape models = model_shape(own, lead.shape.shapes);
    models.merge_bytes = lead.shape.merge_bytes;
    models.decode_threads = 0;
    const MemoryLimits limits = limits_of(own);
    LA_ASSIGN_OR_RETURN(const PlannedRank planned, plan_rank_job(text, models, rank, limits));
    uses.push_back({device, placement.text(rank), planned.peak_bytes(), planned.plan.host.peak_bytes,
                    lead.shape.one_host || limits.keeps({planned.plan, {}})});
  }
  return uses;
}

}  // namespace liveavatar
