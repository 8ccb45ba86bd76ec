// The schedule for 1..50 steps, and Euler steps through the op that the sampler uses.
#include <cmath>
#include <stdexcept>

#include "golden.h"
#include "ops/elementwise.h"
#include "session/solver.h"

namespace liveavatar::golden {
namespace {

bool close(const std::vector<double>& got, const nlohmann::json& want) {
  if (got.size() != want.size()) return false;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::fabs(got[i] - want[i].get<double>()) > 1e-6 * std::max(1e-9, std::fabs(want[i].get<double>())))
      return false;
  }
  return true;
}

}  // namespace

void check_schedule(const Golden& golden) {
  for (const auto& call : golden.calls()) {
    const auto& args = call.at("args");
    int steps = args.at("steps");
    auto schedule = make_schedule(SampleSolver::kEuler, steps, args.at("shift"));
    if (!golden.ok("schedule", schedule.status())) continue;
    if (call.at("op") == "schedule") {
      golden.exact(std::to_string(steps) + " steps, timesteps",
                   close(schedule->timesteps, call.at("f64").at("timesteps")));
      golden.exact(std::to_string(steps) + " steps, sigmas", close(schedule->sigmas, call.at("f64").at("sigmas")));
    } else if (call.at("op") == "euler_step") {
      OwnedTensor sample = golden.tensor(call.at("in").at("sample")), v = golden.tensor(call.at("in").at("v"));
      size_t step = args.at("step");
      float delta = static_cast<float>(schedule->sigmas[step + 1] - schedule->sigmas[step]);
      ops::add(*golden.backend, sample.tensor.rows(), v.tensor.rows(), sample.tensor.rows(), delta);
      golden.compare(call.at("out").at("sample"), sample.tensor);
    } else {
      throw std::runtime_error("unknown op");
    }
  }
}

}  // namespace liveavatar::golden
