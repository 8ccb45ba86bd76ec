// Several videos on one model at once: their forwards go through a layer together, and each video's bits are those of a
// run alone, whatever runs beside it. And one video on several denoisers, each of some of the steps.
#include <gtest/gtest.h>

#include "session_video.h"
#include "support/mini.h"
#include "support/sanitized.h"

namespace liveavatar {
namespace {

class Sessions : public ::testing::Test {
 protected:
  std::vector<float> alone(const VideoKind& kind) {
    SessionVideo video(*models_, kind);
    video.prepare(*pages_);
    EXPECT_TRUE(video.denoiser().run(*pages_, {0, kind.blocks}, video).ok());
    return video.latents();
  }

  std::unique_ptr<Models> models_ = *load_models(mini_options());
  std::unique_ptr<DitWeightGroups> pages_ =
      *models_->dit->open_weight_groups({models_->shapes().dit.layers}, *models_->budget);
};

TEST_F(Sessions, TogetherGiveTheBitsOfEachAlone) {
  const std::vector<VideoKind> kinds = video_kinds();
  std::vector<std::vector<float>> want;
  for (const VideoKind& kind : kinds) want.push_back(alone(kind));
  for (size_t count = kSanitized ? kinds.size() : 2; count <= kinds.size(); ++count) {
    const std::vector<VideoKind> some(kinds.begin(), kinds.begin() + static_cast<int64_t>(count));
    const std::vector<std::vector<float>> together = latents_together(*models_, *pages_, some);
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(together[i], want[i]) << i << " of " << count;
  }
}

// A microphone does not say when it will be switched off.
TEST_F(Sessions, AVideoWhoseEndIsNotKnownBeforeGivesTheSameBits) {
  for (Schedule schedule : {Schedule::kSequential, Schedule::kWavefront}) {
    const std::vector<float> want = alone({64, 64, 3, schedule, 7});
    VideoKind open{64, 64, 100, schedule, 7};
    open.ends_after = 3;
    SessionVideo video(*models_, open);
    video.prepare(*pages_);
    auto made = video.denoiser().run(*pages_, {0, open.blocks}, video);
    ASSERT_TRUE(made.ok());
    EXPECT_EQ(*made, 3);
    EXPECT_EQ(video.latents(), want) << schedule_name(schedule);
  }
}

// One of two is stopped in its second block: it says so, and the other does not notice.
TEST_F(Sessions, AStopEndsOneVideoAndLeavesTheOthersAlone) {
  const VideoKind kind{64, 64, 3, Schedule::kSequential, 1};
  const std::vector<float> want = alone(kind);
  std::stop_source stop;
  class StoppingVideo : public SessionVideo {
   public:
    StoppingVideo(Models& models, const VideoKind& kind, std::stop_source& stop)
        : SessionVideo(models, kind, {.stop = stop.get_token()}), stop_(stop) {}
    Expected<std::optional<BlockStart>> receive(int64_t block) override {
      if (block == 1) stop_.request_stop();
      return SessionVideo::receive(block);
    }

   private:
    std::stop_source& stop_;
  };
  StoppingVideo stopped(*models_, kind, stop);
  SessionVideo other(*models_, kind);
  stopped.prepare(*pages_);
  other.prepare(*pages_);
  std::vector<Denoiser::Run> runs{stopped.run(), other.run()};
  ASSERT_TRUE(Denoiser::run_together(*pages_, runs).ok());
  EXPECT_EQ(runs[0].status.code(), ErrorCode::kCancelled);
  EXPECT_EQ(stopped.latents().size(), want.size() / 3);
  EXPECT_TRUE(runs[1].status.ok());
  EXPECT_EQ(other.latents(), want);
}

// The first steps of a video: each of its blocks goes on to the denoiser of the others.
class FirstSteps : public SessionVideo {
 public:
  FirstSteps(Models& models, const VideoKind& kind, DitWeightGroups& pages, SessionVideo& rest)
      : SessionVideo(models, kind), pages_(pages), rest_(rest) {}
  Status send(int64_t block, const Tensor& latents) override {
    Handover handover(rest_, latents);
    return rest_.denoiser().run(pages_, {block, 1}, handover).status();
  }

 private:
  class Handover : public LatentChannel {
   public:
    Handover(SessionVideo& rest, const Tensor& latents) : rest_(rest), latents_(latents) {}
    Expected<std::optional<BlockStart>> receive(int64_t block) override {
      LA_ASSIGN_OR_RETURN(std::optional<BlockStart> start, rest_.receive(block));
      start->latents = latents_;
      return start;
    }
    Status send(int64_t block, const Tensor& latents) override { return rest_.send(block, latents); }

   private:
    SessionVideo& rest_;
    Tensor latents_;
  };

  DitWeightGroups& pages_;
  SessionVideo& rest_;
};

// A pipeline of two denoisers, three steps and one: latents travel, keys and values do not.
TEST_F(Sessions, StepsSharedByTwoDenoisersGiveTheBitsOfOne) {
  const VideoKind kind{64, 64, 5, Schedule::kSequential, 11};
  const std::vector<float> want = alone(kind);
  VideoKind last_step = kind, first_steps = kind;
  last_step.rank.steps = {3, 1};
  first_steps.rank.steps = {0, 3};
  SessionVideo last(*models_, last_step);
  FirstSteps first(*models_, first_steps, *pages_, last);
  first.prepare(*pages_);
  last.prepare(*pages_);
  ASSERT_TRUE(first.denoiser().run(*pages_, {0, kind.blocks}, first).ok());
  EXPECT_EQ(last.latents(), want);
}

TEST_F(Sessions, ASolverThatRemembersIsNotShared) {
  JobShape shape = shape_of(*models_, {});
  shape.rank.steps = {0, 2};
  const Denoiser::Options options{.sampling = {.solver = SampleSolver::kUniPc}};
  EXPECT_EQ(Denoiser::open(*models_->dit, *models_->backend, *models_->budget, shape, options).status().code(),
            ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace liveavatar
