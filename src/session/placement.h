// Which rank does what of a video (docs/many_devices.md). Rank 0, the lead, reads the inputs, has the VAE and delivers
// the frames. The denoising steps are dealt to stages, one after the other; the ranks of a stage share its tokens and
// heads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"
#include "models/s2v_dit/share.h"

namespace liveavatar {

constexpr int kMostRanks = 64;  // of one video

// Denoising steps [first, first + count).
struct StepRange {
  int64_t first = 0, count = 0;
};

// What of a video one rank makes. The default: all of it.
struct RankPart {
  StepRange steps;      // count 0: all steps
  RankShare share;      // of each of these steps
  RankShare weights;    // of the layers, where they are dealt to the ranks that sample
  bool samples = true;  // false: the lead, with a VAE rank
  bool lead = true;     // reads the inputs, has the VAE, delivers the frames
  bool ends = true;     // has the last steps
  // Blocks go to other ranks or come from them.
  bool alone() const { return steps.count == 0 && share.whole() && samples; }
};

// What a user says. The names are those of the flags.
struct PlacementRequest {
  int devices = 1;              // as many ranks; 0: as many as the others need
  int num_gpus_dit = 0;         // of these, sample; 0: all that are left
  int ulysses_size = 1;         // ranks that share one step
  bool vae_parallel = false;    // the lead samples nothing
  std::vector<int64_t> shares;  // steps of each stage; empty: `balanced_shares`
};

struct Placement {
  std::vector<StepRange> stages{{0, 0}};  // in the order of the steps
  int ulysses_size = 1;
  bool vae_rank = false;  // rank 0 samples nothing

  int first_sampling_rank() const { return vae_rank ? 1 : 0; }
  int ranks() const { return first_sampling_rank() + static_cast<int>(stages.size()) * ulysses_size; }
  // The member'th rank of a stage.
  int rank_of(size_t stage, int member) const {
    return first_sampling_rank() + static_cast<int>(stage) * ulysses_size + member;
  }
  bool samples(int rank) const { return rank >= first_sampling_rank(); }
  size_t stage_of(int rank) const { return static_cast<size_t>((rank - first_sampling_rank()) / ulysses_size); }
  int member_of(int rank) const { return (rank - first_sampling_rank()) % ulysses_size; }
  RankPart part(int rank) const;
  // The ranks of a stage, in ascending order.
  std::vector<int> members(size_t stage) const;
  // "steps 2..3, heads 1 of 2", "VAE": for messages.
  std::string text(int rank) const;
};

// Steps for each of `stages` stages, each at least one, so that the slowest takes as little as can be. lead_steps: what
// the first stage's rank does beside, in steps.
std::vector<int64_t> balanced_shares(int64_t steps, int stages, double lead_steps);

// kInvalidArgument names the flag and what would do. lead_steps: as above, 0 with a rank of its own for the VAE.
Expected<Placement> place_ranks(const PlacementRequest& request, int64_t steps, double lead_steps);

}  // namespace liveavatar
