// What each rank of a run will take, before there is one.
#pragma once

#include <vector>

#include "pipeline/resolve.h"
#include "plan/report.h"

namespace liveavatar {

// The options of the lead as a run would have them (resolve_lead). Where a card is not here its memory has no limit but
// the options' own.
EngineOptions planned_lead(const EngineOptions& options);
// lead: resolved with these options, which planned_lead() made of `asked`. Of as many ranks as the options name
// devices.
Expected<std::vector<RankUse>> plan_ranks(const ResolvedJob& lead, const EngineOptions& options,
                                          const EngineOptions& asked);

}  // namespace liveavatar
