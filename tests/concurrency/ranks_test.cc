// One video on several ranks that share its steps and heads, to the bit the latents of one.
#include <gtest/gtest.h>

#include <thread>

#include "parallel/local_group.h"
#include "session_video.h"
#include "support/mini.h"

namespace liveavatar {
namespace {

std::vector<float> sample(Models& models, const VideoKind& kind, const Denoiser::Options& options = {}) {
  auto pages = *models.dit->open_weight_groups({models.shapes().dit.layers}, *models.budget);
  SessionVideo video(models, kind, options);
  video.prepare(*pages);
  const Status status = video.denoiser().run(*pages, {0, kind.blocks}, video).status();
  EXPECT_TRUE(status.ok()) << status.message();
  return video.latents();
}

// Every rank with models of its own, on a thread.
std::vector<std::vector<float>> sample_on(int ranks, const EngineOptions& options, const VideoKind& kind) {
  const std::vector<std::string> devices(static_cast<size_t>(ranks), "cpu");
  std::vector<std::unique_ptr<Group>> groups = open_local_groups(devices);
  std::vector<std::vector<float>> latents(devices.size());
  std::vector<std::jthread> threads;
  for (size_t r = 0; r < groups.size(); ++r) {
    threads.emplace_back([&, r] {
      auto models = *load_models(options);
      VideoKind part = kind;
      part.rank.share = {static_cast<int64_t>(r), ranks};
      latents[r] = sample(*models, part, {.stage = groups[r].get()});
    });
  }
  threads.clear();
  return latents;
}

class SharedSteps : public ::testing::TestWithParam<int> {
 protected:
  void expect_the_bits_of_one(const EngineOptions& asked, const VideoKind& kind) {
    EngineOptions options = asked;
    options.threads = 1;
    const std::vector<float> want = sample(**load_models(options), kind);
    for (const std::vector<float>& got : sample_on(GetParam(), options, kind)) EXPECT_EQ(got, want);
  }
};

TEST_P(SharedSteps, GiveTheBitsOfOneRank) { expect_the_bits_of_one(mini_options(), {64, 64, 5}); }

TEST_P(SharedSteps, GiveThemInF32AndOfAnOddSize) {
  EngineOptions options = mini_options();
  options.dtype = ComputeType::kF32;
  expect_the_bits_of_one(options, {64, 192, 2});
}

TEST_P(SharedSteps, GiveThemInAWavefrontWithNarrowTypes) {
  EngineOptions options = mini_options();
  options.weights_dtype = WeightsType::kInt8;
  options.int8_products = true;
  options.kv_dtype = KvType::kInt8;
  expect_the_bits_of_one(options, {64, 64, 5, Schedule::kWavefront});
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedSteps, ::testing::Values(2, 3, 4));

}  // namespace
}  // namespace liveavatar
