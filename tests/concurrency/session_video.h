// Videos of noise on loaded models, each with its own session, to be sampled alone or together.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ops/transfer.h"
#include "session/denoiser.h"
#include "session/noise.h"
#include "support/resolved.h"

namespace liveavatar {

// What one video is made of: its size, its order, how many blocks there are. A video in a wavefront has as many blocks
// in flight as it has steps or blocks.
struct VideoKind {
  int64_t height = 64, width = 64, blocks = 3;
  Schedule schedule = Schedule::kSequential;
  uint64_t seed = 1;
  int64_t ends_after = -1;  // blocks, which the denoiser does not know before; -1: at `blocks`
  RankPart rank = {};       // of several
};

inline JobShape shape_of(const Models& models, const VideoKind& kind) {
  JobShape shape = models.checkpoint->shape();
  shape.height = kind.height;
  shape.width = kind.width;
  shape.blocks = kind.blocks;
  shape.schedule = kind.schedule;
  shape.rank = kind.rank;
  return shape;
}

// Noise in, latents kept.
class SessionVideo : public LatentChannel {
 public:
  SessionVideo(Models& models, const VideoKind& kind, const Denoiser::Options& options = {})
      : models_(models), kind_(kind), shape_(shape_of(models, kind)) {
    Denoiser::Options own = options;
    own.sampling.seed = kind.seed;
    denoiser_ = *Denoiser::open(*models.dit, *models.backend, *models.budget, shape_, own);
    memory_ = *BlockMemory::allocate(shape_, *models.budget);
  }

  // Prompt and sink.
  void prepare(DitWeightGroups& pages) {
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
    OwnedTensor t = *OwnedTensor::allocate(*models_.budget, MemoryCategory::kConditioning, shape, DType::kF32);
    fill(t.tensor, stream);
    return t;
  }

  Models& models_;
  VideoKind kind_;
  JobShape shape_;
  std::unique_ptr<Denoiser> denoiser_;
  BlockMemory memory_;
  std::vector<float> latents_;
};

// The kinds that tests mix.
inline std::vector<VideoKind> video_kinds() {
  return {{64, 64, 3, Schedule::kSequential, 1},
          {64, 128, 5, Schedule::kWavefront, 2},
          {64, 64, 2, Schedule::kWavefront, 3},
          {128, 64, 3, Schedule::kWavefront, 4}};
}

// The latents of videos of these kinds, sampled together on one thread.
inline std::vector<std::vector<float>> latents_together(Models& models, DitWeightGroups& pages,
                                                        const std::vector<VideoKind>& kinds) {
  std::vector<std::unique_ptr<SessionVideo>> videos;
  std::vector<Denoiser::Run> runs;
  for (const VideoKind& kind : kinds) {
    videos.push_back(std::make_unique<SessionVideo>(models, kind));
    videos.back()->prepare(pages);
    runs.push_back(videos.back()->run());
  }
  const Status status = Denoiser::run_together(pages, runs);
  EXPECT_TRUE(status.ok()) << status.message();
  std::vector<std::vector<float>> latents;
  for (size_t i = 0; i < videos.size(); ++i) {
    EXPECT_TRUE(runs[i].status.ok()) << runs[i].status.message();
    latents.push_back(videos[i]->latents());
  }
  return latents;
}

}  // namespace liveavatar
