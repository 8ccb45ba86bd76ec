// Several videos on one model at once: their forwards go through a layer together, and each video's bits are those of a
// run alone, whatever runs beside it. And one video on several denoisers, each of some of the steps.
#include <gtest/gtest.h>

#include <map>

#include "../support/resolved.h"
#include "mini.h"
#include "ops/transfer.h"
#include "session/denoiser.h"
#include "session/noise.h"

namespace liveavatar {
namespace {

// What one video is made of: its size, its order, how many blocks there are. A video in a wavefront has as many blocks
// in flight as it has steps or blocks.
struct Kind {
  int64_t height = 64, width = 64, blocks = 3;
  std::string schedule = "sequential";
  uint64_t seed = 1;
  int64_t ends_after = -1;  // blocks, which the denoiser does not know before; -1: at `blocks`
};

JobShape shape_of(const Models& models, const Kind& kind) {
  JobShape shape = models.checkpoint->shape();
  shape.height = kind.height;
  shape.width = kind.width;
  shape.blocks = kind.blocks;
  shape.schedule = kind.schedule;
  return shape;
}

// Noise in, latents kept.
class Video : public LatentChannel {
 public:
  Video(Models& models, const Kind& kind, const Denoiser::Options& options = {})
      : models_(models), kind_(kind), shape_(shape_of(models, kind)) {
    Denoiser::Options own = options;
    own.sampling.seed = kind.seed;
    denoiser_ = *Denoiser::open(*models.dit, *models.backend, *models.budget, shape_, own);
    memory_ = *BlockMemory::allocate(shape_, *models.budget);
  }

  // Prompt and sink.
  void prepare(DitPages& pages) {
    const DitConfig& c = models_.dit->config();
    OwnedTensor prompt = noise({9, c.text_dim}, 1000), motion = noise({c.channels, 19, rows(), columns()}, 1001);
    fill(memory_.reference.tensor, 1002);
    denoiser_->set_prompt(prompt.tensor);
    ASSERT_TRUE(denoiser_->prefill(pages, memory_.reference.tensor, motion.tensor).ok());
  }
  Denoiser::Run run() { return {denoiser_.get(), {0, kind_.blocks}, this, {}}; }
  Denoiser& denoiser() { return *denoiser_; }
  const std::vector<float>& latents() const { return latents_; }

  Expected<std::optional<BlockStart>> receive(int64_t block) override {
    if (block == kind_.ends_after) return std::optional<BlockStart>();
    BlockStart start;
    start.latents = memory_.latents[static_cast<size_t>(block) % memory_.latents.size()].tensor;
    start.features = memory_.features.tensor;
    fill(start.latents, static_cast<uint64_t>(block));
    fill(start.features, static_cast<uint64_t>(500 + block));
    return std::optional<BlockStart>(start);
  }
  Status send(int64_t, const Tensor& latents) override {
    const Download values(*models_.backend, latents);
    latents_.insert(latents_.end(), values.values().begin(), values.values().end());
    return Status();
  }

 private:
  int64_t rows() const { return shape_.geometry().latent_height; }
  int64_t columns() const { return shape_.geometry().latent_width; }
  void fill(const Tensor& t, uint64_t stream) { fill_noise(kind_.seed, stream, Upload(*models_.backend, t).values()); }
  OwnedTensor noise(Shape shape, uint64_t stream) {
    OwnedTensor t = *OwnedTensor::allocate(*models_.budget, Tenant::kConditioning, shape, DType::kF32);
    fill(t.tensor, stream);
    return t;
  }

  Models& models_;
  Kind kind_;
  JobShape shape_;
  std::unique_ptr<Denoiser> denoiser_;
  BlockMemory memory_;
  std::vector<float> latents_;
};

class Sessions : public ::testing::Test {
 protected:
  std::vector<float> alone(const Kind& kind) {
    Video video(*models_, kind);
    video.prepare(*pages_);
    EXPECT_TRUE(video.denoiser().run(*pages_, {0, kind.blocks}, video).ok());
    return video.latents();
  }

  std::unique_ptr<Models> models_ = *load_models(mini_options());
  std::unique_ptr<DitPages> pages_ = *models_->dit->open_pages(models_->shapes().dit.layers, *models_->budget);
};

TEST_F(Sessions, TogetherGiveTheBitsOfEachAlone) {
  const std::vector<Kind> kinds{{64, 64, 3, "sequential", 1},
                                {64, 128, 5, "wavefront", 2},
                                {64, 64, 2, "wavefront", 3},
                                {128, 64, 3, "wavefront", 4}};
  std::vector<std::vector<float>> want;
  for (const Kind& kind : kinds) want.push_back(alone(kind));
  for (size_t count = 2; count <= kinds.size(); ++count) {
    std::vector<std::unique_ptr<Video>> videos;
    std::vector<Denoiser::Run> runs;
    for (size_t i = 0; i < count; ++i) {
      videos.push_back(std::make_unique<Video>(*models_, kinds[i]));
      videos.back()->prepare(*pages_);
      runs.push_back(videos.back()->run());
    }
    ASSERT_TRUE(Denoiser::run_together(*pages_, runs).ok());
    for (size_t i = 0; i < count; ++i) {
      EXPECT_TRUE(runs[i].status.ok());
      EXPECT_EQ(videos[i]->latents(), want[i]) << i << " of " << count;
    }
  }
}

// A microphone does not say when it will be switched off.
TEST_F(Sessions, AVideoWhoseEndIsNotKnownBeforeGivesTheSameBits) {
  for (const char* schedule : {"sequential", "wavefront"}) {
    const std::vector<float> want = alone({64, 64, 3, schedule, 7});
    Kind open{64, 64, 100, schedule, 7};
    open.ends_after = 3;
    Video video(*models_, open);
    video.prepare(*pages_);
    auto made = video.denoiser().run(*pages_, {0, open.blocks}, video);
    ASSERT_TRUE(made.ok());
    EXPECT_EQ(*made, 3);
    EXPECT_EQ(video.latents(), want) << schedule;
  }
}

// One of two is stopped in its second block: it says so, and the other does not notice.
TEST_F(Sessions, AStopEndsOneVideoAndLeavesTheOthersAlone) {
  const Kind kind{64, 64, 3, "sequential", 1};
  const std::vector<float> want = alone(kind);
  std::stop_source stop;
  class StoppingVideo : public Video {
   public:
    StoppingVideo(Models& models, const Kind& kind, std::stop_source& stop)
        : Video(models, kind, {.stop = stop.get_token()}), stop_(stop) {}
    Expected<std::optional<BlockStart>> receive(int64_t block) override {
      if (block == 1) stop_.request_stop();
      return Video::receive(block);
    }

   private:
    std::stop_source& stop_;
  };
  StoppingVideo stopped(*models_, kind, stop);
  Video other(*models_, kind);
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
class FirstSteps : public Video {
 public:
  FirstSteps(Models& models, const Kind& kind, DitPages& pages, Video& rest)
      : Video(models, kind, {.steps = StepRange{0, 3}}), pages_(pages), rest_(rest) {}
  Status send(int64_t block, const Tensor& latents) override {
    Handover handover(rest_, latents);
    return rest_.denoiser().run(pages_, {block, 1}, handover).status();
  }

 private:
  class Handover : public LatentChannel {
   public:
    Handover(Video& rest, const Tensor& latents) : rest_(rest), latents_(latents) {}
    Expected<std::optional<BlockStart>> receive(int64_t block) override {
      LA_ASSIGN_OR_RETURN(std::optional<BlockStart> start, rest_.receive(block));
      start->latents = latents_;
      return start;
    }
    Status send(int64_t block, const Tensor& latents) override { return rest_.send(block, latents); }

   private:
    Video& rest_;
    Tensor latents_;
  };

  DitPages& pages_;
  Video& rest_;
};

// A pipeline of two denoisers, three steps and one: latents travel, keys and values do not.
TEST_F(Sessions, StepsSharedByTwoDenoisersGiveTheBitsOfOne) {
  const Kind kind{64, 64, 5, "sequential", 11};
  const std::vector<float> want = alone(kind);
  Video last(*models_, kind, {.steps = StepRange{3, 1}});
  FirstSteps first(*models_, kind, *pages_, last);
  first.prepare(*pages_);
  last.prepare(*pages_);
  ASSERT_TRUE(first.denoiser().run(*pages_, {0, kind.blocks}, first).ok());
  EXPECT_EQ(last.latents(), want);
}

TEST_F(Sessions, ASolverThatRemembersIsNotShared) {
  const JobShape shape = shape_of(*models_, {});
  const Denoiser::Options options{{.solver = SolverKind::kUniPc}, StepRange{0, 2}, {}, {}};
  EXPECT_EQ(Denoiser::open(*models_->dit, *models_->backend, *models_->budget, shape, options).status().code(),
            ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace liveavatar
