#include "pipeline/schedule.h"

#include <cmath>

namespace liveavatar {

Expected<Schedule> flow_match_schedule(int steps, double shift) {
  if (steps < 1 || steps > kMostSteps) {
    return invalid_argument("--sample_steps " + std::to_string(steps) + ": choose 1 to " + std::to_string(kMostSteps));
  }
  if (!std::isfinite(shift) || shift <= 0) return invalid_argument("--sample_shift must be positive");
  constexpr double kTableSteps = kMostSteps;
  auto shifted = [shift](double x) { return shift * x / (1 + (shift - 1) * x); };
  double most = shifted(1.0), least = shifted(1.0 / kTableSteps);
  Schedule schedule;
  for (int i = 0; i < steps; ++i) {
    double even = steps == 1 ? most : most + (least - most) * double(i) / double(steps - 1);
    schedule.sigmas.push_back(shifted(even));
    schedule.timesteps.push_back(schedule.sigmas.back() * kTableSteps);
  }
  schedule.sigmas.push_back(0.0);
  return schedule;
}

}  // namespace liveavatar
