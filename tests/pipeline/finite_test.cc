// Values that are not finite: the error names where they came from, and a block that was wrong once is computed again.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <vector>

#include "support/mini.h"
#include "support/resolved.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

constexpr const char* kWhat =
    ": the model gave values that are not finite; its weights are damaged, or `dtype` f32 "
    "is needed";

class FiniteTest : public ::testing::Test {
 protected:
  struct Made {
    Status status;
    std::vector<float> latents;
    std::vector<int64_t> retried;
  };
  // Noise of block 2 is not finite the first `wrong` times.
  Made run(Models& models, const GenerateRequest& job, int wrong = 0) {
    Made made;
    RunCalls calls;
    calls.on_chunk = [](const VideoChunk&) { return true; };
    calls.on_progress = [&](const Progress& p) {
      const int64_t last = made.retried.empty() ? -1 : made.retried.back();
      if (p.retried_block != last) made.retried.push_back(p.retried_block);
    };
    calls.hooks.noise = [&](int64_t block, std::span<float> noise) {
      for (size_t i = 0; i < noise.size(); ++i) noise[i] = std::sin(float(i) + float(block));
      if (block == 2 && wrong-- > 0) noise[7] = NAN;
    };
    calls.hooks.latents = [&](int64_t, const Tensor& t) {
      made.latents.insert(made.latents.end(), t.host<float>(), t.host<float>() + t.elements());
    };
    made.status = run_job(models, job, calls);
    return made;
  }
  static GenerateRequest four_blocks(CheckFinite check, OnNan on_nan = OnNan::kStop) {
    GenerateRequest job = mini_job(2);
    job.check_finite = check;
    job.on_nan = on_nan;
    return job;
  }
  // An adapter that makes the modulation of a layer so large that its products overflow.
  std::string overflow_of(int64_t layer) const {
    const std::string name = "blocks." + std::to_string(layer) + ".modulation";
    auto dit = open_part(find_video_model({.folder = mini_options().checkpoint_dir})->dit, Part::kVideoModel);
    const Shape shape = (*dit)->tensors().at(name).shape;
    std::string dims;
    for (int64_t i = 0; i < shape.rank(); ++i) dims += (i == 0 ? "" : ",") + std::to_string(shape[i]);
    const std::vector<float> values(static_cast<size_t>(shape.elements()), 3e38f);
    const std::string header = R"({"diffusion_model.)" + name.substr(0, name.rfind('.')) +
                               R"(.modulation.set_weight":{"dtype":"F32","shape":[)" + dims +
                               R"(],"data_offsets":[0,)" + std::to_string(values.size() * 4) + "]}}";
    const uint64_t length = header.size();
    std::ofstream file(dir_ / "overflow.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), 8) << header;
    file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * 4));
    return dir_.file("overflow.safetensors");
  }

  TempDir dir_;
};

TEST_F(FiniteTest, TheErrorNamesBlockStepAndLayerAsFarAsWasLooked) {
  auto models = *load_models(mini_options());
  const Made made = run(*models, four_blocks(CheckFinite::kBlock), 1);
  EXPECT_EQ(made.status.code(), ErrorCode::kCorrupt);
  EXPECT_EQ(made.status.message(), std::string("block 2") + kWhat);
  EXPECT_EQ(run(*models, four_blocks(CheckFinite::kStep), 1).status.message(), std::string("block 2, step 0") + kWhat);
  EXPECT_EQ(run(*models, four_blocks(CheckFinite::kLayer), 1).status.message(),
            std::string("block 2, step 0, layer 0") + kWhat);
}

TEST_F(FiniteTest, AModelThatOverflowsIsNamedByItsLayer) {
  EngineOptions options = mini_options();
  const int64_t layer = 2;
  options.loras = {{overflow_of(layer), 1}};
  auto models = load_models(options);
  ASSERT_TRUE(models.ok()) << models.status().message();
  EXPECT_EQ(run(**models, four_blocks(CheckFinite::kLayer)).status.message(),
            std::string("block 0, step 0, layer 2") + kWhat);
  EXPECT_EQ(run(**models, four_blocks(CheckFinite::kStep)).status.message(), std::string("block 0, step 0") + kWhat);
  const Made again = run(**models, four_blocks(CheckFinite::kLayer, OnNan::kRetry));
  EXPECT_TRUE(again.status.message().starts_with(std::string("block 0, step 0, layer 2") + kWhat + "; it was computed"))
      << again.status.message();
  EXPECT_EQ(again.retried, std::vector<int64_t>{0});
}

TEST_F(FiniteTest, LookingMoreOftenChangesNoBit) {
  auto models = *load_models(mini_options());
  const Made want = run(*models, four_blocks(CheckFinite::kBlock));
  ASSERT_TRUE(want.status.ok()) << want.status.message();
  for (CheckFinite check : {CheckFinite::kStep, CheckFinite::kLayer}) {
    GenerateRequest job = four_blocks(check);
    job.schedule = Schedule::kWavefront;
    EXPECT_EQ(run(*models, job).latents, want.latents) << check_finite_name(check);
  }
}

TEST_F(FiniteTest, ABlockThatWasWrongOnceIsComputedAgainAndTheVideoIsTheSame) {
  auto models = *load_models(mini_options());
  const Made want = run(*models, four_blocks(CheckFinite::kBlock));
  ASSERT_TRUE(want.status.ok()) << want.status.message();
  EXPECT_TRUE(want.retried.empty());
  for (SampleSolver solver : {SampleSolver::kEuler, SampleSolver::kUniPc}) {
    GenerateRequest plain = four_blocks(CheckFinite::kBlock);
    plain.sample_solver = solver;
    const Made same = run(*models, plain);
    for (CheckFinite check : {CheckFinite::kBlock, CheckFinite::kStep, CheckFinite::kLayer}) {
      GenerateRequest job = four_blocks(check, OnNan::kRetry);
      job.sample_solver = solver;
      const Made made = run(*models, job, 1);
      ASSERT_TRUE(made.status.ok()) << made.status.message();
      EXPECT_EQ(made.latents, same.latents) << check_finite_name(check);
      EXPECT_EQ(made.retried, std::vector<int64_t>{2});
    }
  }
}

TEST_F(FiniteTest, ABlockThatIsWrongTwiceFailsTheJob) {
  auto models = *load_models(mini_options());
  const Made made = run(*models, four_blocks(CheckFinite::kBlock, OnNan::kRetry), 2);
  EXPECT_EQ(made.status.code(), ErrorCode::kCorrupt);
  EXPECT_TRUE(made.status.message().starts_with("block 2: ")) << made.status.message();
  EXPECT_NE(made.status.message().find("it was computed twice"), std::string::npos) << made.status.message();
}

TEST_F(FiniteTest, ARetryThatCannotBeRightIsRefusedBeforeAnyWork) {
  GenerateRequest job = four_blocks(CheckFinite::kBlock, OnNan::kRetry);
  job.schedule = Schedule::kWavefront;
  EngineOptions options = mini_options();
  EXPECT_TRUE(resolve_job(options, job).status().message().starts_with("`on_nan` retry: several blocks"));
  options.devices = "cpu,cpu";
  job.schedule = Schedule::kSequential;
  EXPECT_TRUE(resolve_job(options, job).status().message().starts_with("`on_nan` retry: a block is computed again on"));
}

}  // namespace
}  // namespace liveavatar
