// Jobs with solvers that remember: every schedule and number of threads gives the same video, blocks begin anew.
#include "session/solver.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/memory.h"
#include "ops/make_backend.h"
#include "support/mini.h"

namespace liveavatar {
namespace {

std::vector<uint8_t> video(const GenerateRequest& job, int threads) {
  auto engine = Engine::load(mini_options(threads));
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  std::vector<uint8_t> rgb;
  Status status = (*engine)->generate(job, [&](const VideoChunk& block) {
    rgb.insert(rgb.end(), block.rgb, block.rgb + block.frames * block.height * block.width * 3);
    return true;
  });
  EXPECT_TRUE(status.ok()) << status.message();
  return rgb;
}

TEST(Solver, SequentialAndWavefrontGiveTheSameVideoOnAnyNumberOfThreads) {
  std::vector<uint8_t> euler = video(mini_job(3), 2);
  for (SampleSolver solver : {SampleSolver::kUniPc, SampleSolver::kDpmPlusPlus}) {
    GenerateRequest job = mini_job(3);
    job.sample_solver = solver;
    job.schedule = Schedule::kSequential;
    std::vector<uint8_t> sequential = video(job, 1);
    EXPECT_NE(sequential, euler) << sample_solver_name(solver);
    job.schedule = Schedule::kWavefront;
    EXPECT_EQ(video(job, 3), sequential) << sample_solver_name(solver);
  }
}

TEST(Solver, RefusesUnknownNames) {
  Status status = parse_sample_solver("heun").status();
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "`sample_solver` heun: choose euler, unipc or dpm++");
  for (SampleSolver solver : {SampleSolver::kEuler, SampleSolver::kUniPc, SampleSolver::kDpmPlusPlus})
    EXPECT_EQ(*parse_sample_solver(sample_solver_name(solver)), solver);
}

// A whole timestep is cut off right at an integer: 900, not 899.
TEST(Solver, IntegerTimestepsAreExact) {
  auto schedule = make_schedule(SampleSolver::kDpmPlusPlus, 4, 3.0);
  ASSERT_TRUE(schedule.ok());
  EXPECT_EQ(schedule->timesteps, (std::vector<double>{1000, 900, 750, 500}));
}

// With a velocity that points straight at a clean sample, every solver ends on it at every number of steps.
TEST(Solver, EveryNumberOfStepsEndsOnTheCleanSample) {
  Budget budget;
  auto backend = make_backend("reference", {.threads = 1, .budget = &budget});
  ASSERT_TRUE(backend.ok());
  for (SampleSolver kind : {SampleSolver::kUniPc, SampleSolver::kDpmPlusPlus}) {
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
