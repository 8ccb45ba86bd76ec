// Sessions with a limit each, known before they are admitted: each keeps its own to the byte, whatever runs beside it.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "pipeline/synthetic_video.h"
#include "plan/memory_plan.h"
#include "session_video.h"
#include "support/mini.h"

namespace liveavatar {
namespace {

class Admission : public ::testing::Test {
 protected:
  JobShape shape(const VideoKind& kind) const {
    JobShape shape = shape_of(*models_, kind);
    shape.video_model_only = true;
    shape.shares_weights = true;
    return shape;
  }
  Expected<std::unique_ptr<SyntheticVideo>> open(const VideoKind& kind, Budget& budget) {
    return SyntheticVideo::open(*models_, budget, shape(kind), {kind.seed, "", pages_.get()});
  }

  std::unique_ptr<Models> models_ = *load_models(mini_options());
  std::unique_ptr<DitWeightGroups> pages_ =
      *models_->dit->open_weight_groups({models_->shapes().dit.layers}, *models_->budget);
};

TEST_F(Admission, EachSessionTakesWhatItsPlanSays) {
  std::vector<std::unique_ptr<Budget>> limits;
  std::vector<std::unique_ptr<SyntheticVideo>> videos;
  std::vector<Denoiser::Run> runs;
  std::vector<size_t> planned;
  for (const VideoKind& kind : video_kinds()) {
    planned.push_back(plan_memory(shape(kind))->session_bytes);
    limits.push_back(*Budget::open_within(*models_->budget, planned.back()));
    videos.push_back(*open(kind, *limits.back()));
    videos.back()->start();
    runs.push_back(videos.back()->run());
  }
  ASSERT_TRUE(Denoiser::run_together(*pages_, runs).ok());
  for (size_t i = 0; i < runs.size(); ++i) {
    EXPECT_TRUE(runs[i].status.ok());
    EXPECT_EQ(limits[i]->peak_bytes(), planned[i]) << i;
  }
}

TEST_F(Admission, ASessionWithLessThanItsPlanIsAnErrorBeforeItRuns) {
  const VideoKind kind = video_kinds().front();
  auto limit = *Budget::open_within(*models_->budget, plan_memory(shape(kind))->session_bytes - 1);
  EXPECT_EQ(open(kind, *limit).status().code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(limit->used_bytes(), 0u);
}

TEST_F(Admission, ASecondVideoOfASizeNeedsNoMoreScratch) {
  const VideoKind kind = video_kinds().front();
  const MemoryPlan plan = *plan_memory(shape(kind));
  size_t models = models_->budget->used_bytes();
  for (size_t scratch : {plan.scratch_bytes, size_t{0}}) {
    auto limit = *Budget::open_within(*models_->budget, plan.session_bytes);
    auto video = *open(kind, *limit);
    EXPECT_EQ(models_->budget->used_bytes() - limit->used_bytes(), models + scratch);
    models += scratch;
  }
}

// Two speakers with masks: portrait, voices, masks and the file that is written are in the session's limit too.
TEST_F(Admission, AWholeJobTakesWhatItsPlanSays) {
  GenerateRequest job = mini_job();
  job.audio += "+" + job.audio;
  const std::string masks = kSource + "/tests/goldens/speakers/masks/moving/";
  job.masks = {masks + "1", masks + "2"};
  for (int i = 0; i < 700; ++i) job.prompt += "talk ";  // longer than text_len, so that the plan's prompt is the real one
  ResolvedJob resolved = *resolve(resolve_options(*models_->checkpoint), job);
  ASSERT_TRUE(hear(resolved).ok());
  auto limit = *Budget::open_within(*models_->budget, resolved.plan.session_bytes);
  RunCalls calls;
  calls.on_chunk = [](const VideoChunk&) { return true; };
  calls.budget = limit.get();
  const Status status = run_job(*models_, resolved, calls);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(limit->peak_bytes(), resolved.plan.session_bytes);
}

}  // namespace
}  // namespace liveavatar
