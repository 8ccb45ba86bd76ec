// Jobs with solvers that remember: every schedule and number of threads gives the same video, blocks begin anew.
#include "session/solver.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/memory.h"
#include "ops/make_backend.h"
#include "support/mini.h"

namespace liveavatar {
namespace {

std::vector<uint8_t> video(const Job& job, int threads) {
  auto engine = Engine::load(mini_options(threads));
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  std::vector<uint8_t> rgb;
  Status status = (*engine)->generate(job, [&](const VideoBlock& block) {
    rgb.insert(rgb.end(), block.rgb, block.rgb + block.frames * block.height * block.width * 3);
    return true;
  });
  EXPECT_TRUE(status.ok()) << status.message();
  return rgb;
}

TEST(Solver, SequentialAndWavefrontGiveTheSameVideoOnAnyNumberOfThreads) {
  std::vector<uint8_t> euler = video(mini_job(3), 2);
  for (const char* solver : {"unipc", "dpm++"}) {
    Job job = mini_job(3);
    job.sample_solver = solver;
    job.schedule = "sequential";
    std::vector<uint8_t> sequential = video(job, 1);
    EXPECT_NE(sequential, euler) << solver;
    job.schedule = "wavefront";
    EXPECT_EQ(video(job, 3), sequential) << solver;
  }
}

TEST(Solver, RefusesUnknownNames) {
  Job job = mini_job();
  job.sample_solver = "heun";
  auto engine = Engine::load(mini_options());
  ASSERT_TRUE(engine.ok());
  Status status = (*engine)->describe(job).status();
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(status.message().find("--sample_solver heun"), std::string::npos) << status.message();
}

// A whole timestep is cut off right at an integer: 900, not 899.
TEST(Solver, IntegerTimestepsAreExact) {
  auto schedule = make_schedule(SolverKind::kDpmPlusPlus, 4, 3.0);
  ASSERT_TRUE(schedule.ok());
  EXPECT_EQ(schedule->timesteps, (std::vector<double>{1000, 900, 750, 500}));
}

// With a velocity that points straight at a clean sample, every solver ends on it at every number of steps.
TEST(Solver, EveryNumberOfStepsEndsOnTheCleanSample) {
  Budget budget;
  auto backend = make_backend("reference", {.threads = 1, .budget = &budget});
  ASSERT_TRUE(backend.ok());
  for (SolverKind kind : {SolverKind::kUniPc, SolverKind::kDpmPlusPlus}) {
    for (int steps = 1; steps <= 50; ++steps) {
      auto solver = Solver::make(kind, steps, 5.0);
      ASSERT_TRUE(solver.ok());
      const float clean[2] = {0.5f, -2.0f};
      float x[2] = {1.5f, 0.25f}, v[2], kept[3][2];
      std::vector<Tensor> history;
      for (int64_t i = 0; i < solver_history_tensors(kind); ++i)
        history.emplace_back(kept[i], Shape{1, 2}, DType::kF32);
      for (int i = 0; i < steps; ++i) {
        double sigma = solver->schedule().sigmas[size_t(i)];
        for (int c = 0; c < 2; ++c) v[c] = float((x[c] - clean[c]) / sigma);
        solver->step(**backend, size_t(i), Tensor(v, {1, 2}, DType::kF32), history, Tensor(x, {1, 2}, DType::kF32));
      }
      for (int c = 0; c < 2; ++c) EXPECT_NEAR(x[c], clean[c], 1e-5) << steps << " steps";
    }
  }
}

}  // namespace
}  // namespace liveavatar
