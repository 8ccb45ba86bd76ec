#include "plan/placement_report.h"

#include <algorithm>
#include <numeric>

#include "plan/rank_plan.h"

namespace liveavatar {
namespace {

// By the rank's own part of the job.
RankMemory rank_memory(const JobShape& asked, size_t memory_bytes) {
  return [&asked, memory_bytes](const Placement& placement, int rank) -> Expected<size_t> {
    LA_ASSIGN_OR_RETURN(const MemoryPlan plan, plan_rank(asked, placement, rank, {memory_bytes, 0}));
    return plan.peak_bytes;
  };
}

// As a run of the same flags has it.
Expected<PlacementChoice> asked_placement(const PlacementSearch& search, const Work& work,
                                          const PlacementRequest& request) {
  if (request.ulysses_size > search.times.heads)
    return invalid_argument("`ulysses_size` " + std::to_string(request.ulysses_size) + ": the video model has " +
                            std::to_string(search.times.heads) + " heads; choose as many or fewer");
  PlacementChoice choice;
  LA_ASSIGN_OR_RETURN(choice.placement, place_ranks(request, search.steps, lead_steps(work, search.steps)));
  choice.simulation = simulate_ranks(choice.placement, search.video, search.times, search.link);
  return choice;
}

}  // namespace

Expected<PlacementReport> report_placement(const JobShape& job, const Work& work, const PlacementQuestion& question) {
  const std::optional<StageTimes> times = stage_times(job, work, question.device, question.link);
  if (!times) return unsupported("`dtype` f32: its products have no time model; take bf16 to plan several devices");
  PlacementSearch search;
  search.devices = question.device.count;
  search.memory_bytes = question.memory_bytes;
  search.rank_bytes = rank_memory(question.asked, question.memory_bytes);
  search.steps = job.steps;
  search.video = {job.blocks, job.clip_blocks()};
  search.times = *times;
  search.link = device_link(question.link, question.device);
  Expected<PlacementChoice> choice =
      question.request ? asked_placement(search, work, *question.request) : best_placement(search);
  LA_RETURN_IF_ERROR(choice.status());
  PlacementReport report{question.link, choice->placement, choice->simulation, choice->reason, {}, {}};
  const auto ranks = static_cast<size_t>(report.placement.ranks());
  const MemoryLimits limits{question.memory_bytes, question.host_bytes / ranks};
  for (int rank = 0; rank < report.placement.ranks(); ++rank) {
    LA_ASSIGN_OR_RETURN(const MemoryPlan plan, plan_rank(question.asked, report.placement, rank, limits));
    report.peak_bytes.push_back(plan.peak_bytes);
    report.host_peak_bytes.push_back(plan.host.peak_bytes);
  }
  return report;
}

bool PlacementReport::fits(size_t memory_bytes, size_t host_bytes) const {
  const size_t most = *std::max_element(peak_bytes.begin(), peak_bytes.end());
  const size_t most_of_host = *std::max_element(host_peak_bytes.begin(), host_peak_bytes.end());
  return (memory_bytes == 0 || most <= memory_bytes) &&
         (host_bytes == 0 || most_of_host <= host_bytes / host_peak_bytes.size());
}

size_t PlacementReport::host_peak_of_all() const {
  return std::accumulate(host_peak_bytes.begin(), host_peak_bytes.end(), size_t{0});
}

nlohmann::ordered_json placement_json(const PlacementReport& report) {
  using Json = nlohmann::ordered_json;
  const RankSimulation& s = report.simulation;
  Json json = {{"link", link_name(report.link)},
               {"ulysses_size", report.placement.ulysses_size},
               {"vae_rank", report.placement.vae_rank},
               {"predicted_frames_per_s", s.steady_frames_per_s},
               {"predicted_frames_per_s_of_video", s.frames_per_s},
               {"predicted_first_frame_s", s.first_frame_s},
               {"predicted_seconds", s.seconds},
               {"limit", s.limit.text()},
               {"reason", report.reason},
               {"ranks", Json::array()}};
  for (int rank = 0; rank < report.placement.ranks(); ++rank) {
    const RankLoad& load = s.ranks[static_cast<size_t>(rank)];
    Json row = {{"rank", rank},
                {"does", report.placement.text(rank)},
                {"seconds_per_block",
                 {{"sampling", load.sampling_s},
                  {"exchange", load.exchange_s},
                  {"conditioning", load.condition_s},
                  {"decoding", load.decode_s}}},
                {"busy_share", load.busy_share},
                {"exchange_share", load.exchange_share},
                {"waiting_share", load.waiting_share}};
    row["peak_bytes"] = report.peak_bytes[static_cast<size_t>(rank)];
    row["host_peak_bytes"] = report.host_peak_bytes[static_cast<size_t>(rank)];
    json["ranks"].push_back(row);
  }
  return json;
}

}  // namespace liveavatar
