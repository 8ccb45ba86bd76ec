// Plans and runs as JSON: docs/plan.md lists the keys.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/placement_report.h"
#include "plan/suggestions.h"

namespace liveavatar {

// What a rank of a run takes: the lead first. On one host the lead's is that of all, and the others' what they add.
struct RankUse {
  std::string device, part;
  size_t peak_bytes = 0, host_peak_bytes = 0;
  bool fits = true;  // its own limits
};

// A plan compared with a budget.
struct PlanReport {
  JobShape request;
  MemoryPlan plan;
  Work work;
  MemoryLimits limits;
  bool fits = true;
  std::vector<Suggestion> suggestions;
  std::optional<DeviceProfile> device;
  std::optional<PlacementReport> placement;  // on several devices of that kind
  size_t placement_host_bytes = 0;           // the limit of host memory beside all of these
  std::vector<RankUse> ranks;                // on several devices by their names, of which `plan` is the lead's
  std::optional<Prediction> prediction() const { return device ? predict(work, *device) : std::nullopt; }
};
Expected<PlanReport> make_plan_report(const JobShape& request, const MemoryLimits& limits);
// Of a job that was resolved for these limits.
Expected<PlanReport> plan_report_of(const JobShape& asked, const JobShape& shape, const MemoryPlan& plan,
                                    const MemoryLimits& limits);

// Where a category's bytes are and how long: "resident", "freed after use", ...
std::string placement(MemoryCategory category, const JobShape& request);
// "int8", or the type of `dtype`.
std::string activations_name(const JobShape& request);
std::string to_json(const PlanReport& plan_report);
// A line where W8A8 was asked for and this machine has no 8-bit products; else empty.
std::string products_note(const JobShape& request, const MemoryPlan& plan);

// The measured memory and time of a run, beside the plan.
struct RunReport {
  size_t predicted_peak_bytes = 0, measured_peak_bytes = 0, charged_peak_bytes = 0, budget_bytes = 0;
  // Host memory beside a card; then measured_peak_bytes is of it, and the others above are of the card.
  size_t host_predicted_peak_bytes = 0, host_charged_peak_bytes = 0;
  struct Category {
    std::string name;
    size_t predicted_bytes = 0, charged_bytes = 0;
  };
  std::vector<Category> categories;
  std::vector<std::pair<std::string, double>> stage_seconds;
  int64_t frames = 0;
  std::string video_encoder;  // by FFmpeg's name; empty: no frame was made
  struct Rank {
    std::string host, device, part;
    size_t predicted_peak_bytes = 0, charged_peak_bytes = 0;
    double seconds = 0, waited_seconds = 0;  // making blocks, and of these waiting for other ranks
    std::string link;  // what it exchanges heads over: "NCCL 2.28.9", "host memory: " and why; empty: it does not
  };
  std::vector<Rank> ranks;  // of several
};
std::string to_json(const RunReport& run_report);

}  // namespace liveavatar
