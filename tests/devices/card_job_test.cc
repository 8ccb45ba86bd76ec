// Whole jobs of the mini model on the emulated card, with the text and the audio encoder on the CPU: the memory of both
// is the plan's to the byte, the card never has more than its budget, and what is on disk does not change a bit.
#include <gtest/gtest.h>

#include "support/emulated_cuda.h"
#include "support/mini.h"
#include "support/operands.h"
#include "support/resolved.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

constexpr size_t kEnoughBytes = size_t{1} << 40;

struct Made {
  std::vector<float> latents;
  std::vector<uint8_t> rgb;
};

class CardJobTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (emulated_cuda() == nullptr) GTEST_SKIP() << "no device emulation in this build";
    options_.device = "cuda";
    options_.page_weights = false;
    job_.infer_frames = 12;
    job_.prompt.clear();
    for (int i = 0; i < 100; ++i) job_.prompt += "talk ";  // all slots: the plan's prompt
  }

  // On a card with `card_bytes`.
  Made make(const EngineOptions& options, size_t card_bytes = kEnoughBytes, uint32_t stream_seed = 0) {
    Made made;
    const std::unique_ptr<DeviceSource> card =
        options.device == "cuda" ? emulated_cuda({.memory_bytes = card_bytes, .stream_seed = stream_seed}) : nullptr;
    auto models = load_models(options, card.get());
    EXPECT_TRUE(models.ok()) << models.status().message();
    if (!models.ok()) return made;
    RunCalls calls;
    calls.hooks.latents = [&](int64_t, const Tensor& t) {
      made.latents.insert(made.latents.end(), t.host<float>(), t.host<float>() + t.elements());
    };
    calls.on_chunk = [&](const VideoChunk& chunk) {
      made.rgb.insert(made.rgb.end(), chunk.rgb, chunk.rgb + chunk.frames * chunk.width * chunk.height * 3);
      return true;
    };
    const ResolvedJob resolved = *resolve(resolve_options(*(*models)->checkpoint), job_);
    const Status status = run_job(**models, job_, calls);
    EXPECT_TRUE(status.ok()) << status.message();
    if (card != nullptr) expect_planned(**models, resolved.plan);
    return made;
  }

  static void expect_planned(const Models& models, const MemoryPlan& plan) {
    EXPECT_EQ(models.budget->peak_bytes(), plan.peak_bytes);
    EXPECT_EQ(models.budget->peak_by_category(), plan.peak_by_category);
    EXPECT_EQ(models.host_budget->peak_bytes(), plan.host.peak_bytes);
    EXPECT_EQ(models.host_budget->peak_by_category(), plan.host.peak_by_category);
  }

  TempDir dir_;
  EngineOptions options_ = mini_options();
  GenerateRequest job_ = mini_job();
};

double psnr(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) squares += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
  return 10 * std::log10(255.0 * 255.0 * double(a.size()) / std::max(squares, 1e-9));
}

TEST_F(CardJobTest, TheVideoIsTheCpus) {
  const Made card = make(options_);
  EngineOptions on_cpu = options_;
  on_cpu.device = "cpu";
  const Made cpu = make(on_cpu);
  ASSERT_EQ(card.rgb.size(), cpu.rgb.size());
  ASSERT_EQ(card.rgb.size(), size_t(12 * 64 * 64 * 3));
  EXPECT_GT(psnr(card.rgb, cpu.rgb), 40);
}

TEST_F(CardJobTest, WeightsKeysAndValuesOnDiskStayInTheBudgetAndDoNotChangeABit) {
  const Made want = make(options_);
  const std::string packed = dir_.file("mini.packed");
  const Status converted = convert_dit(options_, packed, {});
  ASSERT_TRUE(converted.ok()) << converted.message();
  options_.packed_dit = packed;
  options_.paging_dir = dir_.path();
  options_.page_weights = true;
  JobShape shape = *asked_shape(options_, job_);
  shape.resident_layers = 1;
  shape.resident_kv_caches = 2;
  const MemoryPlan plan = *plan_memory(shape);
  options_.memory_budget_bytes = plan.peak_bytes;
  options_.host_budget_bytes = plan.host.peak_bytes;  // little waits there
  const ResolvedJob resolved = *resolve_job(options_, job_);
  EXPECT_TRUE(resolved.shape.paged());
  EXPECT_GT(resolved.plan.paged_disk_bytes, 0u);
  for (bool packed_before : {true, false}) {
    options_.packed_dit = packed_before ? packed : "";
    const Made got = make(options_, options_.memory_budget_bytes, packed_before ? 0 : 1);
    EXPECT_EQ(got.latents, want.latents);
    EXPECT_EQ(got.rgb, want.rgb);
  }
}

// What does not fit on the card waits in host memory, without a folder on disk.
TEST_F(CardJobTest, WeightsKeysAndValuesInHostMemoryDoNotChangeABit) {
  const Made want = make(options_);
  options_.page_weights = true;
  JobShape shape = *asked_shape(options_, job_);
  shape.resident_layers = 1;
  shape.resident_kv_caches = 0;
  shape.host_kv_caches = shape.kv_caches().count();
  options_.memory_budget_bytes = plan_memory(shape)->peak_bytes;
  const ResolvedJob resolved = *resolve_job(options_, job_);
  EXPECT_EQ(resolved.shape.resident(), 1);
  EXPECT_EQ(resolved.shape.kv_caches().on_disk(), 0);
  const Made got = make(options_, options_.memory_budget_bytes, 1);
  EXPECT_EQ(got.latents, want.latents);
  EXPECT_EQ(got.rgb, want.rgb);
}

// Three blocks of two places; before the second the sink is filled again.
TEST_F(CardJobTest, DecodingBesideSamplingGivesTheBitsOfDecodingInTurns) {
  job_.num_clip = 3;
  job_.sample_steps = 1;
  options_.decode_beside = false;
  const Made want = make(options_);
  options_.decode_beside = true;
  EXPECT_TRUE(asked_shape(options_, job_)->decodes_beside());
  for (uint32_t seed : {0u, 1u}) {
    const Made got = make(options_, kEnoughBytes, seed);
    EXPECT_EQ(got.latents, want.latents) << "seed " << seed;
    EXPECT_EQ(got.rgb, want.rgb) << "seed " << seed;
  }
}

// On a card with not one byte more than the plan's.
TEST_F(CardJobTest, ProductsInEightBitsHaveTheirScratchInThePlan) {
  options_.weights_dtype = WeightsType::kInt8;
  const MemoryPlan without = *plan_memory(*asked_shape(options_, job_));
  options_.int8_products = true;
  const MemoryPlan plan = *plan_memory(*asked_shape(options_, job_));
  EXPECT_TRUE(plan.int8_products);
  EXPECT_GT(plan.scratch_bytes, without.scratch_bytes);
  options_.memory_budget_bytes = plan.peak_bytes;
  const Made card = make(options_, plan.peak_bytes, 1);
  EngineOptions on_cpu = options_;
  on_cpu.device = "cpu";
  on_cpu.memory_budget_bytes = 0;
  EXPECT_GT(psnr(card.rgb, make(on_cpu).rgb), 25);
}

TEST_F(CardJobTest, WhatDoesNotFitIsSaidBeforeAWeightIsRead) {
  options_.host_budget_bytes = size_t{1} << 20;
  const auto card = emulated_cuda();
  const auto host = load_models(options_, card.get());
  ASSERT_FALSE(host.ok());
  EXPECT_NE(host.status().message().find("`host_budget_bytes`"), std::string::npos) << host.status().message();
  options_.host_budget_bytes = 0;
  options_.memory_budget_bytes = size_t{1} << 20;
  EXPECT_EQ(load_models(options_, card.get()).status().code(), ErrorCode::kOutOfMemory);
  options_.memory_budget_bytes = 0;  // the card itself is too small
  const auto small = emulated_cuda({.memory_bytes = size_t{1} << 20});
  const auto loaded = load_models(options_, small.get());
  EXPECT_EQ(loaded.status().code(), ErrorCode::kOutOfMemory);
  EXPECT_NE(loaded.status().message().find("are free on this device"), std::string::npos) << loaded.status().message();
}

}  // namespace
}  // namespace liveavatar
