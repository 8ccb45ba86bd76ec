#include "session/placement.h"

#include <algorithm>
#include <numeric>

namespace liveavatar {

RankPart Placement::part(int rank) const {
  RankPart part;
  part.lead = rank == 0;
  part.samples = samples(rank);
  part.ends = false;
  if (!part.samples) return part;
  const size_t stage = stage_of(rank);
  part.ends = stage + 1 == stages.size();
  if (ranks() > 1) part.steps = stages[stage];
  part.share = {member_of(rank), ulysses_size};
  part.weights = {rank - first_sampling_rank(), ranks() - first_sampling_rank()};
  return part;
}

std::vector<int> Placement::members(size_t stage) const {
  std::vector<int> ranks;
  for (int member = 0; member < ulysses_size; ++member) ranks.push_back(rank_of(stage, member));
  return ranks;
}

std::string Placement::text(int rank) const {
  if (!samples(rank)) return "VAE";
  const StepRange& steps = stages[stage_of(rank)];
  std::string text =
      steps.count == 1 ? "step " + std::to_string(steps.first)
                       : "steps " + std::to_string(steps.first) + ".." + std::to_string(steps.first + steps.count - 1);
  if (ulysses_size > 1)
    text += ", heads " + std::to_string(member_of(rank) + 1) + " of " + std::to_string(ulysses_size);
  return text;
}

std::vector<int64_t> balanced_shares(int64_t steps, int stages, double lead_steps) {
  std::vector<int64_t> shares(static_cast<size_t>(stages), 1);
  for (int64_t left = steps - stages; left > 0; --left) {
    // To the stage that is done first; of equal ones to the earlier, so that a block's first steps are the long part.
    size_t least = 0;
    auto load = [&](size_t stage) { return double(shares[stage]) + (stage == 0 ? lead_steps : 0); };
    for (size_t stage = 1; stage < shares.size(); ++stage)
      if (load(stage) < load(least)) least = stage;
    ++shares[least];
  }
  return shares;
}

namespace {

std::string number(int64_t n) { return std::to_string(n); }

Status check_stages(int stages, int64_t steps) {
  if (stages <= steps) return {};
  return invalid_argument("`num_gpus_dit`: " + number(stages) + " stages, and a block has " + number(steps) +
                          " steps (`sample_steps`); take " + number(steps) +
                          " at most, or let more devices share a step (`ulysses_size`)");
}

Status check_shares(const std::vector<int64_t>& shares, int stages, int64_t steps) {
  const bool possible =
      std::all_of(shares.begin(), shares.end(), [&](int64_t share) { return share > 0 && share <= steps; });
  const bool all = static_cast<int>(shares.size()) == stages && possible;
  if (all && std::accumulate(shares.begin(), shares.end(), int64_t{0}) == steps) return {};
  return invalid_argument("`step_shares`: give " + number(stages) + " numbers above 0, one a stage, whose sum is the " +
                          number(steps) + " steps");
}

}  // namespace

Expected<Placement> place_ranks(const PlacementRequest& r, int64_t steps, double lead_steps) {
  if (r.ulysses_size < 1) return invalid_argument("`ulysses_size` " + number(r.ulysses_size) + ": choose 1 or more");
  if (r.num_gpus_dit < 0) return invalid_argument("`num_gpus_dit` " + number(r.num_gpus_dit) + ": choose 1 or more");
  if (std::max(r.num_gpus_dit, r.ulysses_size) > kMostRanks)
    return invalid_argument("`num_gpus_dit` " + number(r.num_gpus_dit) + ", `ulysses_size` " + number(r.ulysses_size) +
                            ": choose up to " + number(kMostRanks));
  const int vae = r.vae_parallel ? 1 : 0;
  int sampling = r.num_gpus_dit;
  if (sampling == 0) sampling = r.devices > 0 ? r.devices - vae : r.ulysses_size;
  if (sampling < 1)
    return invalid_argument("`vae_parallel`: the VAE takes one of " + number(r.devices) +
                            " devices, and none is left to sample; add one, or leave it out");
  if (r.devices > 0 && sampling + vae != r.devices)
    return invalid_argument("`num_gpus_dit` " + number(sampling) +
                            (vae != 0 ? " and one for the VAE make " : " makes ") + number(sampling + vae) +
                            " devices, and " + number(r.devices) + " are given; change one of the two");
  if (sampling % r.ulysses_size != 0)
    return invalid_argument("`ulysses_size` " + number(r.ulysses_size) + ": " + number(sampling) +
                            " sampling devices are no whole number of such groups; choose a divisor of " +
                            number(sampling));
  const int stages = sampling / r.ulysses_size;
  LA_RETURN_IF_ERROR(check_stages(stages, steps));
  std::vector<int64_t> shares = r.shares;
  if (shares.empty()) shares = balanced_shares(steps, stages, r.vae_parallel ? 0 : lead_steps);
  LA_RETURN_IF_ERROR(check_shares(shares, stages, steps));
  Placement placement;
  placement.stages.clear();
  placement.ulysses_size = r.ulysses_size;
  placement.vae_rank = r.vae_parallel;
  int64_t first = 0;
  for (int64_t share : shares) {
    placement.stages.push_back({first, share});
    first += share;
  }
  return placement;
}

}  // namespace liveavatar
