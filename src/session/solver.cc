#include "session/solver.h"

#include <algorithm>
#include <cmath>

#include "ops/elementwise.h"
#include "ops/transfer.h"

namespace liveavatar {
namespace {

constexpr double kTableSteps = 1000;

double shifted(double x, double shift) { return shift * x / (1 + (shift - 1) * x); }

void euler_schedule(int steps, double shift, NoiseSchedule& schedule) {
  double most = shifted(1.0, shift), least = shifted(1.0 / kTableSteps, shift);
  for (int i = 0; i < steps; ++i) {
    double even = steps == 1 ? most : most + (least - most) * double(i) / double(steps - 1);
    schedule.sigmas.push_back(shifted(even, shift));
    schedule.timesteps.push_back(schedule.sigmas.back() * kTableSteps);
  }
}

// Whole timesteps are cut off right at integers (900, 750): in numpy's order of operations.
void multistep_schedule(double first, int steps, double shift, NoiseSchedule& schedule) {
  double stride = (0.0 - first) / double(steps);
  for (int i = 0; i < steps; ++i) {
    schedule.sigmas.push_back(shifted(double(i) * stride + first, shift));
    schedule.timesteps.push_back(std::trunc(schedule.sigmas.back() * kTableSteps));
  }
}

// ln(alpha / sigma), alpha = 1 - sigma: -infinity at pure noise, infinity at none.
double log_snr(double sigma) { return std::log(1 - sigma) - std::log(sigma); }

}  // namespace

Expected<NoiseSchedule> make_schedule(SampleSolver kind, int steps, double shift) {
  if (steps < 1 || steps > kMostSteps) {
    return invalid_argument("`sample_steps` " + std::to_string(steps) + ": choose 1 to " + std::to_string(kMostSteps));
  }
  if (!std::isfinite(shift) || shift <= 0) return invalid_argument("`sample_shift` must be positive");
  NoiseSchedule schedule;
  if (kind == SampleSolver::kEuler) {
    euler_schedule(steps, shift, schedule);
  } else {
    double first = kind == SampleSolver::kUniPc ? double(0.999f) : 1.0;
    multistep_schedule(first, steps, shift, schedule);
  }
  schedule.sigmas.push_back(0.0);
  return schedule;
}

Expected<Solver> Solver::make(SampleSolver kind, int steps, double shift) {
  Solver solver;
  solver.kind_ = kind;
  LA_ASSIGN_OR_RETURN(solver.schedule_, make_schedule(kind, steps, shift));
  for (size_t i = 0; i < static_cast<size_t>(steps) && kind != SampleSolver::kEuler; ++i)
    solver.coefficients_.push_back(kind == SampleSolver::kUniPc ? solver.unipc(i) : solver.dpm_plus_plus(i));
  return solver;
}

// Order 2 ("bh2", from predicted clean samples), order 1 at the first step and at the last.
Solver::Coefficients Solver::unipc(size_t i) const {
  const std::vector<double>& sigma = schedule_.sigmas;
  size_t steps = schedule_.timesteps.size();
  auto order = [steps](size_t step) { return std::min({size_t{2}, steps - step, step + 1}); };
  Coefficients c;
  c.corrects = i > 0;
  if (c.corrects) {
    double before = log_snr(sigma[i - 1]), h = log_snr(sigma[i]) - before, e = std::expm1(-h), alpha = 1 - sigma[i];
    double share = 0.5;  // of m - m1
    if (order(i - 1) == 2) {
      double r = (log_snr(sigma[i - 2]) - before) / h;
      double phi = e / -h - 1, b1 = phi / e, b2 = (phi / -h - 0.5) * 2 / e;
      double q0 = (b2 - b1) / (r - 1);  // of [1, 1; r, 1] [q0, q1] = [b1, b2]
      share = b1 - q0;
      c.corrected_m2 = -alpha * e * q0 / r;
    }
    c.corrected_last = sigma[i] / sigma[i - 1];
    c.corrected_m = -alpha * e * share;
    c.corrected_m1 = -alpha * e * (1 - share) - c.corrected_m2;
  }
  if (i + 1 == steps) {  // no noise is left: the clean sample itself
    c.next_m = 1;
    return c;
  }
  double now = log_snr(sigma[i]), h = log_snr(sigma[i + 1]) - now, e = std::expm1(-h), alpha = 1 - sigma[i + 1];
  double slope = 0;  // of m1 - m
  if (order(i) == 2) slope = 0.5 / ((log_snr(sigma[i - 1]) - now) / h);
  c.next_x = sigma[i + 1] / sigma[i];
  c.next_m = -alpha * e * (1 - slope);
  c.next_m1 = -alpha * e * slope;
  return c;
}

// Order 2, midpoint; order 1 at the first step and the last. The first sigma is 1, so the second step divides by an
// infinite step before it: its slope is 0.
Solver::Coefficients Solver::dpm_plus_plus(size_t i) const {
  const std::vector<double>& sigma = schedule_.sigmas;
  Coefficients c;
  if (i + 1 == schedule_.timesteps.size()) {
    c.next_m = 1;
    return c;
  }
  double now = log_snr(sigma[i]), h = log_snr(sigma[i + 1]) - now, g = std::expm1(-h), alpha = 1 - sigma[i + 1];
  double slope = 0;  // of m - m1
  if (i > 1) slope = 0.5 / ((now - log_snr(sigma[i - 1])) / h);
  c.next_x = sigma[i + 1] / sigma[i];
  c.next_m = -alpha * g * (1 + slope);
  c.next_m1 = alpha * g * slope;
  return c;
}

void Solver::step(Backend& backend, size_t step, const Tensor& velocity, std::span<const Tensor> history,
                  const Tensor& x) const {
  LA_CHECK(static_cast<int64_t>(history.size()) == solver_history_tensors(kind_));
  if (kind_ != SampleSolver::kEuler) return multistep(backend, step, velocity, history, x);
  float delta = static_cast<float>(schedule_.sigmas[step + 1] - schedule_.sigmas[step]);
  ops::add(backend, x, velocity, x, delta);
}

// One pass over a block in double precision: small beside a forward.
void Solver::multistep(Backend& backend, size_t step, const Tensor& velocity, std::span<const Tensor> history,
                       const Tensor& x) const {
  LA_CHECK(velocity.elements() == x.elements());
  const Download before(backend, x), direction(backend, velocity);
  const Upload after(backend, x);
  const float *from = before.f32(), *v = direction.f32();
  float* sample = after.f32();
  int64_t count = x.elements();
  const Coefficients& c = coefficients_[step];
  double sigma = schedule_.sigmas[step];
  float* clean = history[0].host<float>();  // m1
  float* older = history.size() > 1 ? history[1].host<float>() : nullptr;
  float* last = history.size() > 2 ? history[2].host<float>() : nullptr;
  for (int64_t i = 0; i < count; ++i) {
    double m = double(from[i]) - sigma * double(v[i]), m1 = step > 0 ? double(clean[i]) : 0, now = double(from[i]);
    if (c.corrects) {
      double m2 = step > 1 ? double(older[i]) : 0;
      now = c.corrected_last * double(last[i]) + c.corrected_m * m + c.corrected_m1 * m1 + c.corrected_m2 * m2;
    }
    sample[i] = static_cast<float>(c.next_x * now + c.next_m * m + c.next_m1 * m1);
    if (last != nullptr) {
      older[i] = clean[i];
      last[i] = static_cast<float>(now);
    }
    clean[i] = static_cast<float>(m);
  }
}

}  // namespace liveavatar
