#include "plan/best_placement.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/size_text.h"

namespace liveavatar {
namespace {

// A frame rate without what rounding does to it.
int64_t rate_of(const RankSimulation& s) { return std::llround(s.steady_frames_per_s * 1e6); }

// What the lead does beside sampling, in steps of one rank: as lead_steps(), which is what a run goes by, but in
// seconds.
double predicted_lead_steps(const StageTimes& times, int sampling_ranks) {
  const ForwardTimes& f = times.step;
  const double step_s =
      std::max(f.whole_s + f.by_tokens_s + f.by_heads_s, f.reading_s(sampling_ranks) + f.keys_values_s);
  return step_s > 0 ? (times.condition_s + times.decode_s) / step_s : 0;
}

class Search {
 public:
  explicit Search(const PlacementSearch& search) : search_(search) {
    // The steady rate does not depend on the length.
    short_video_ = search.video;
    short_video_.blocks = std::min(short_video_.blocks, short_video_.clip_blocks + 8);
  }

  Expected<PlacementChoice> run() {
    add_candidates();
    std::stable_sort(candidates_.begin(), candidates_.end(), better);
    for (size_t i = 0; i < candidates_.size(); ++i) {
      LA_ASSIGN_OR_RETURN(const bool fits, keeps_memory(candidates_[i].placement));
      if (fits) return choose(i);
    }
    return out_of_memory("none of " + std::to_string(candidates_.size()) + " ways to place the video on " +
                         devices_text() + " fits: the fullest device of the leanest needs " + mib(leanest_bytes_) +
                         " of its " + mib(search_.memory_bytes) +
                         "; add devices, or take narrower weights, keys and values (`weights_dtype`, `kv_dtype`)");
  }

 private:
  struct Candidate {
    Placement placement;
    RankSimulation simulation;
  };

  static bool better(const Candidate& a, const Candidate& b) {
    const int64_t a_rate = rate_of(a.simulation), b_rate = rate_of(b.simulation);
    if (a_rate != b_rate) return a_rate > b_rate;
    if (a.placement.ranks() != b.placement.ranks()) return a.placement.ranks() < b.placement.ranks();
    return a.simulation.first_frame_s < b.simulation.first_frame_s;
  }

  void add_candidates() {
    for (const bool vae : {false, true}) {
      const int64_t sampling = search_.devices - (vae ? 1 : 0);
      const int64_t most_members = std::min(sampling, search_.times.heads);
      for (int64_t members = 1; members <= most_members; ++members) {
        const int64_t most_stages = std::min(sampling / members, search_.steps);
        for (int64_t stages = 1; stages <= most_stages; ++stages) add(vae, int(members), int(stages));
      }
    }
  }

  // Even shares leave the lead's own work aside, but no rank has the caches of more steps than it must.
  void add(bool vae, int members, int stages) {
    const std::vector<int64_t> even = balanced_shares(search_.steps, stages, 0);
    const double beside = vae ? 0 : predicted_lead_steps(search_.times, members * stages);
    const std::vector<int64_t> balanced = balanced_shares(search_.steps, stages, beside);
    add_shares(vae, members, even);
    if (balanced != even) add_shares(vae, members, balanced);
  }

  void add_shares(bool vae, int members, const std::vector<int64_t>& shares) {
    PlacementRequest request;
    request.num_gpus_dit = members * static_cast<int>(shares.size());
    request.devices = request.num_gpus_dit + (vae ? 1 : 0);
    request.ulysses_size = members;
    request.vae_parallel = vae;
    request.shares = shares;
    const Expected<Placement> placement = place_ranks(request, search_.steps, 0);
    LA_CHECK(placement.ok());
    candidates_.push_back({*placement, simulate_ranks(*placement, short_video_, search_.times, search_.link)});
  }

  Expected<bool> keeps_memory(const Placement& placement) {
    if (!search_.rank_bytes || search_.memory_bytes == 0) return true;
    size_t fullest = 0;
    for (int rank = 0; rank < placement.ranks(); ++rank) {
      LA_ASSIGN_OR_RETURN(const size_t bytes, search_.rank_bytes(placement, rank));
      fullest = std::max(fullest, bytes);
    }
    leanest_bytes_ = leanest_bytes_ == 0 ? fullest : std::min(leanest_bytes_, fullest);
    return fullest <= search_.memory_bytes;
  }

  PlacementChoice choose(size_t i) const {
    const Placement& placement = candidates_[i].placement;
    PlacementChoice choice{placement, simulate_ranks(placement, search_.video, search_.times, search_.link), ""};
    choice.reason = "the fastest of " + std::to_string(candidates_.size()) + " placements on " + devices_text();
    if (i > 0) choice.reason += " but for " + std::to_string(i) + " that do not fit";
    if (i + 1 < candidates_.size()) {
      char rate[32];
      std::snprintf(rate, sizeof(rate), "%.1f", candidates_[i + 1].simulation.steady_frames_per_s);
      choice.reason += "; the next, " + placement_text(candidates_[i + 1].placement) + ", makes " + rate + " frames/s";
    }
    return choice;
  }

  std::string devices_text() const {
    return search_.devices == 1 ? "1 device" : "up to " + std::to_string(search_.devices) + " devices";
  }

  const PlacementSearch& search_;
  VideoBlocks short_video_;
  std::vector<Candidate> candidates_;
  size_t leanest_bytes_ = 0;
};

}  // namespace

Expected<PlacementChoice> best_placement(const PlacementSearch& search) {
  LA_CHECK(search.devices > 0 && search.steps > 0);
  return Search(search).run();
}

std::string placement_text(const Placement& p) {
  std::string shares;
  for (size_t i = 0; i < p.stages.size(); ++i) {
    const bool last = i + 1 == p.stages.size();
    if (i > 0) shares += last ? " and " : ", ";
    shares += std::to_string(p.stages[i].count);
  }
  std::string text = p.stages.size() == 1 ? "one stage" : "stages of " + shares + " steps";
  if (p.ulysses_size > 1)
    text += (p.stages.size() == 1 ? " of " : ", ") + std::to_string(p.ulysses_size) +
            (p.stages.size() == 1 ? " ranks" : " ranks each");
  return text + (p.vae_rank ? ", a rank for the VAE" : "");
}

}  // namespace liveavatar
