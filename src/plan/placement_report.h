// What `plan` says of a video on many devices: docs/many_devices_plan.md.
#pragma once

#include <optional>
#include <vector>

#include "core/json.h"
#include "plan/best_placement.h"
#include "plan/memory_plan.h"
#include "plan/stage_times.h"

namespace liveavatar {

// Equal devices, and a job as it was planned for one of them.
struct PlacementQuestion {
  DeviceProfile device;
  size_t memory_bytes = 0;  // a job's limit on each
  LinkType link = LinkType::kPcie;
  std::optional<PlacementRequest> request;  // none: the best placement
  JobShape asked;                           // the job before it was resolved for one device
  size_t host_bytes = 0;                    // of host memory beside all that are used, a part of it each; 0: no limit
};

struct PlacementReport {
  LinkType link = LinkType::kPcie;
  Placement placement;
  RankSimulation simulation;
  std::string reason;                               // of the best placement; empty: it was asked for
  std::vector<size_t> peak_bytes, host_peak_bytes;  // of each rank: on its device, and in host memory beside it
  // On each device, and in its part of the host memory beside them; 0: no limit.
  bool fits(size_t memory_bytes, size_t host_bytes) const;
  size_t host_peak_of_all() const;
};
// kUnsupported for products in f32, which have no time model.
Expected<PlacementReport> report_placement(const JobShape& job, const Work& work, const PlacementQuestion& question);

nlohmann::ordered_json placement_json(const PlacementReport& report);

}  // namespace liveavatar
