// The fastest placement of a video on equal devices, of those whose ranks fit.
#pragma once

#include <functional>
#include <vector>

#include "plan/rank_simulation.h"

namespace liveavatar {

// Bytes of a rank at its peak.
using RankMemory = std::function<Expected<size_t>(const Placement&, int rank)>;

struct PlacementSearch {
  int devices = 1;          // at most so many are used
  size_t memory_bytes = 0;  // of each; 0: no limit
  RankMemory rank_bytes;    // empty: unknown, and all fit
  int64_t steps = 4;
  VideoBlocks video;
  StageTimes times;
  Link link;
};

struct PlacementChoice {
  Placement placement;
  RankSimulation simulation;
  std::string reason;  // in a line, without a dot
};
// By the steady frame rate. Of those that are as fast: the fewest ranks, then the earliest first frame. kOutOfMemory
// where none fits.
Expected<PlacementChoice> best_placement(const PlacementSearch& search);

// "stages of 2 and 2 steps, 2 ranks each, a rank for the VAE"
std::string placement_text(const Placement& placement);

}  // namespace liveavatar
