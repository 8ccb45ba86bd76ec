// Euler, UniPC and DPM++: timesteps, sigmas, and samples step by step for stored model outputs.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "golden.h"
#include "session/solver.h"

namespace liveavatar::golden {
namespace {

template <typename T>
T must(Expected<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().message());
  return *std::move(value);
}

bool close(const std::vector<double>& got, const nlohmann::json& want) {
  return std::equal(got.begin(), got.end(), want.begin(), want.end(),
                    [](double g, double w) { return std::fabs(g - w) <= 1e-6 * std::max(1e-9, std::fabs(w)); });
}

void schedule(const Golden& golden, const Solver& solver, const nlohmann::json& call) {
  const NoiseSchedule& s = solver.schedule();
  std::string timesteps = call.at("out").at("timesteps"), sigmas = call.at("out").at("sigmas");
  // Whole timesteps to the integer; Euler's are not rounded.
  bool whole = solver.kind() != SampleSolver::kEuler;
  std::vector<int32_t> integers(s.timesteps.begin(), s.timesteps.end());
  if (whole) golden.exact(timesteps + " whole", integers == golden.i32(timesteps));
  golden.exact(timesteps, close(s.timesteps, call.at("f64").at("timesteps")));
  golden.exact(sigmas, close(s.sigmas, call.at("f64").at("sigmas")));
}

void sample(const Golden& golden, const Solver& solver, const nlohmann::json& call) {
  OwnedTensor x = golden.tensor(call.at("in").at("noise")), outputs = golden.tensor(call.at("in").at("outputs"));
  std::vector<OwnedTensor> kept;
  std::vector<Tensor> history;
  for (int64_t i = 0; i < solver_history_tensors(solver.kind()); ++i) {
    kept.push_back(
        must(OwnedTensor::allocate(golden.budget->host(), MemoryCategory::kRuntime, x.tensor.shape, DType::kF32)));
    history.push_back(kept.back().tensor);
    std::fill_n(history.back().host<float>(), history.back().elements(), NAN);  // what step 0 must not look at
  }
  std::vector<float> samples, corrected;
  auto append = [&golden](std::vector<float>& all, const Tensor& t) {
    const std::vector<float> values = golden.values(t);
    all.insert(all.end(), values.begin(), values.end());
  };
  const Tensor rows = x.tensor.rows();
  for (int64_t i = 0; i < outputs.tensor.dim(0); ++i) {
    Tensor velocity = outputs.tensor.slice(i, 1).reshape(x.tensor.shape).rows();
    solver.step(*golden.backend, static_cast<size_t>(i), velocity, history, rows);
    append(samples, x.tensor);
    if (solver.kind() == SampleSolver::kUniPc) append(corrected, history.back());
  }
  golden.compare(call.at("out").at("samples"), samples);
  if (call.at("out").contains("corrected")) golden.compare(call.at("out").at("corrected"), corrected);
}

}  // namespace

void check_solvers(const Golden& golden) {
  for (const auto& call : golden.calls()) {
    const auto& args = call.at("args");
    Solver solver =
        must(Solver::make(must(parse_sample_solver(args.at("solver"))), args.at("steps"), args.at("shift")));
    std::string op = call.at("op");
    if (op == "schedule") {
      schedule(golden, solver, call);
    } else if (op == "sample") {
      sample(golden, solver, call);
    } else {
      throw std::runtime_error("unknown op '" + op + "'");
    }
  }
}

}  // namespace liveavatar::golden
