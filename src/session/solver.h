// Solvers of the flow-matching ODE: Euler, and the second-order UniPC and DPM++ of the original's S2V loop.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/status.h"
#include "core/tensor.h"
#include "liveavatar/types.h"

namespace liveavatar {

struct NoiseSchedule {
  std::vector<double> timesteps;  // [steps], 0..1000, what the model is told
  std::vector<double> sigmas;     // [steps + 1], noise levels; the last is 0
};

// Tensors of a block's size that a solver keeps from step to step.
constexpr int64_t solver_history_tensors(SampleSolver kind) {
  return kind == SampleSolver::kEuler ? 0 : kind == SampleSolver::kUniPc ? 3 : 1;
}

constexpr int kMostSteps = 1000;  // as many as the model was trained with

// steps 1..kMostSteps. f(x) = shift x / (1 + (shift - 1) x). Euler: f acts twice, on the ends of the 1000-step table
// and on the `steps` points spread evenly between them; for 4 steps and shift 3: 1000, 857.69, 602.15, 8.93. UniPC and
// DPM++: f acts once on even points from 0.999 (f32), respectively 1, down to 0; the model is told whole timesteps, cut
// off.
Expected<NoiseSchedule> make_schedule(SampleSolver kind, int steps, double shift);

// One schedule and the coefficients of its steps. Immutable: what a block remembers is with its history, and step 0
// does not read that, so a block begins anew by itself.
class Solver {
 public:
  static Expected<Solver> make(SampleSolver kind, int steps, double shift);
  SampleSolver kind() const { return kind_; }
  const NoiseSchedule& schedule() const { return schedule_; }

  // x, the sample that the model saw at `step`, becomes that of the next step. velocity: the model's output. history:
  // solver_history_tensors of x's shape in host memory, the same ones for all steps of a block. All f32.
  void step(Backend& backend, size_t step, const Tensor& velocity, std::span<const Tensor> history,
            const Tensor& x) const;

 private:
  // With m = x - sigma v, the predicted clean sample, and m1, m2 those of the steps before:
  struct Coefficients {
    bool corrects = false;  // UniPC, from the second step on: first x is made anew from the sample of the step before
    double corrected_last = 0, corrected_m = 0, corrected_m1 = 0, corrected_m2 = 0;
    double next_x = 0, next_m = 0, next_m1 = 0;
  };
  Coefficients unipc(size_t step) const;
  Coefficients dpm_plus_plus(size_t step) const;
  void multistep(Backend& backend, size_t step, const Tensor& velocity, std::span<const Tensor> history,
                 const Tensor& x) const;

  SampleSolver kind_ = SampleSolver::kEuler;
  NoiseSchedule schedule_;
  std::vector<Coefficients> coefficients_;
};

}  // namespace liveavatar
