// One video on several ranks that share its steps and heads, to the bit the latents of one.
#include <gtest/gtest.h>

#include <thread>

#include "parallel/local_group.h"
#include "session_video.h"
#include "support/mini.h"
#include "support/sanitized.h"
#include "weights/tensor_source.h"

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

// A layer of the 14B model's widths, with synthetic weights that all ranks share: 40 heads on three ranks are 14, 13
// and 13.
Expected<std::unique_ptr<Models>> one_layer_of_14b(ComputeType dtype) {
  EngineOptions options;
  options.dtype = dtype;
  options.threads = 1;
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Models> models, Models::without_weights(options));
  ModelShapes& shapes = models->checkpoint->shapes;
  LA_ASSIGN_OR_RETURN(shapes, named_model_shapes("14b"));
  shapes.dit.layers = 1;
  shapes.dit.audio_inject_layers = {0};
  models->types = models->checkpoint->shape().types();
  const TensorSourcePtr source = synthetic_tensors(dit_tensors(shapes.dit, *models->backend), 420);
  LA_ASSIGN_OR_RETURN(models->dit, S2vDit::load(shapes.dit, *source, *models->backend, *models->budget, models->types));
  return models;
}

TEST(SharedStepsOf14B, GiveTheBitsOfOneRank) {
  if (kSanitized) GTEST_SKIP() << "minutes";
  constexpr int kRanks = 3;
  const VideoKind kind{64, 64, 2};
  auto lead = *one_layer_of_14b(ComputeType::kBf16);
  const std::vector<float> want = sample(*lead, kind);
  std::vector<std::unique_ptr<Group>> groups = open_local_groups(std::vector<std::string>(kRanks, "cpu"));
  std::vector<std::unique_ptr<Models>> others;
  for (int r = 1; r < kRanks; ++r) others.push_back(*Models::beside(*lead));
  std::vector<std::vector<float>> latents(kRanks);
  std::vector<std::jthread> threads;
  for (size_t r = 0; r < kRanks; ++r) {
    threads.emplace_back([&, r] {
      VideoKind part = kind;
      part.rank.share = {static_cast<int64_t>(r), kRanks};
      latents[r] = sample(r == 0 ? *lead : *others[r - 1], part, {.stage = groups[r].get()});
    });
  }
  threads.clear();
  for (const std::vector<float>& got : latents) EXPECT_EQ(got, want);
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedSteps, ::testing::Values(2, 3, 4));

}  // namespace
}  // namespace liveavatar
