// Flow-matching Euler schedule of the original.
#pragma once

#include <vector>

#include "core/status.h"

namespace liveavatar {

struct Schedule {
  std::vector<double> timesteps;  // [steps], 0..1000, what the model is told
  std::vector<double> sigmas;     // [steps + 1], noise levels; the last is 0
};

constexpr int kMostSteps = 1000;  // as many as the model was trained with

// steps 1..kMostSteps. f(x) = shift x / (1 + (shift - 1) x) acts twice: on the ends of the 1000-step table, and on the
// `steps` points spread evenly between them. For 4 steps and shift 3: 1000, 857.69, 602.15, 8.93.
Expected<Schedule> flow_match_schedule(int steps, double shift);

}  // namespace liveavatar
