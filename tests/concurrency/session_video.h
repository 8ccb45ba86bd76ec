// Videos of noise on loaded models, each with its own session, to be sampled alone or together.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ops/transfer.h"
#include "pipeline/models.h"
#include "pipeline/noise.h"
#include "pipeline/sampler.h"

namespace liveavatar {

// What one video is made of: its size, how many of its blocks run side by side, how many there are.
struct VideoKind {
  int64_t latent_height = 8, latent_width = 8, in_flight = 1, blocks = 3;
  uint64_t seed = 1;
};

class SessionVideo {
 public:
  SessionVideo(Models& models, const VideoKind& kind) : models_(models), kind_(kind) {
    geometry_ = {kind.latent_height, kind.latent_width, 12, kBlockLatents};
    SamplerOptions options;
    options.seed = kind.seed;
    options.in_flight = kind.in_flight;
    sampler_ = *Sampler::open(*models.dit, *models.backend, *models.budget, geometry_, options);
    memory_ = *BlockMemory::allocate(models.dit->config(), geometry_, {.kept = kind.in_flight}, *models.budget);
    feed_.start = [this](int64_t block) { return start(block); };
    feed_.done = [this](int64_t, const Tensor& latents) {
      const Download values(*models_.backend, latents);
      latents_.insert(latents_.end(), values.values().begin(), values.values().end());
      return Status();
    };
  }

  // Prompt and sink.
  void prepare(DitPages& pages) {
    const DitConfig& c = models_.dit->config();
    OwnedTensor prompt = noise({9, c.text_dim}, 1000), motion = noise({c.channels, 19, rows(), columns()}, 1001);
    fill(memory_.reference.tensor, 1002);
    sampler_->set_prompt(prompt.tensor);
    ASSERT_TRUE(sampler_->prefill(pages, memory_.reference.tensor, motion.tensor).ok());
  }
  Sampler::Run run() { return {sampler_.get(), {0, kind_.blocks}, &feed_}; }
  const std::vector<float>& latents() const { return latents_; }

 private:
  int64_t rows() const { return geometry_.latent_height; }
  int64_t columns() const { return geometry_.latent_width; }
  void fill(const Tensor& t, uint64_t stream) { fill_noise(kind_.seed, stream, Upload(*models_.backend, t).values()); }
  OwnedTensor noise(Shape shape, uint64_t stream) {
    OwnedTensor t = *OwnedTensor::allocate(*models_.budget, Tenant::kConditioning, shape, DType::kF32);
    fill(t.tensor, stream);
    return t;
  }
  Expected<BlockFeed::Start> start(int64_t block) {
    const Tensor& latents = memory_.latents[static_cast<size_t>(block % kind_.in_flight)].tensor;
    fill(latents, static_cast<uint64_t>(block));
    fill(memory_.features.tensor, static_cast<uint64_t>(500 + block));
    return BlockFeed::Start{memory_.features.tensor, latents, Tensor(), Tensor()};
  }

  Models& models_;
  VideoKind kind_;
  DitGeometry geometry_;
  std::unique_ptr<Sampler> sampler_;
  BlockMemory memory_;
  BlockFeed feed_;
  std::vector<float> latents_;
};

// The kinds that tests mix.
inline std::vector<VideoKind> video_kinds() {
  return {{8, 8, 1, 3, 1}, {8, 16, 2, 5, 2}, {8, 8, 4, 2, 3}, {16, 8, 3, 1, 4}};
}

// The latents of videos of these kinds, sampled together on one thread.
inline std::vector<std::vector<float>> latents_together(Models& models, DitPages& pages,
                                                        const std::vector<VideoKind>& kinds) {
  std::vector<std::unique_ptr<SessionVideo>> videos;
  std::vector<Sampler::Run> runs;
  for (const VideoKind& kind : kinds) {
    videos.push_back(std::make_unique<SessionVideo>(models, kind));
    videos.back()->prepare(pages);
    runs.push_back(videos.back()->run());
  }
  const Status status = Sampler::run_together(pages, runs);
  EXPECT_TRUE(status.ok()) << status.message();
  std::vector<std::vector<float>> latents;
  for (const auto& video : videos) latents.push_back(video->latents());
  return latents;
}

}  // namespace liveavatar
