// Prompts and portraits that an engine has seen before: the next video starts without their encoders, and is the same.
#include "session/condition_cache.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "session/video_session.h"
#include "support/mini.h"
#include "support/resolved.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

OwnedTensor values(Budget& budget, int64_t count, float value) {
  OwnedTensor t = *OwnedTensor::allocate(budget, MemoryCategory::kConditioning, {count}, DType::kF32);
  std::fill_n(t.tensor.host<float>(), count, value);
  return t;
}

TEST(ConditionCache, KeepsTheLastUsedInsideItsLimit) {
  Budget host(64 << 10), outside;
  auto cache = *ConditionCache::open(host, 3 * 4096);
  EXPECT_EQ(host.left_bytes(), (64u << 10) - 3 * 4096);
  for (const char* key : {"a", "b"}) cache->keep(key, {values(outside, 1000, float(key[0])).tensor});
  ASSERT_NE(cache->find("a"), nullptr);
  EXPECT_EQ(cache->find("a")->front().tensor.host<float>()[999], float('a'));
  cache->keep("c", {values(outside, 1000, 1).tensor});  // the keys take bytes too, so that two have room
  EXPECT_EQ(cache->find("b"), nullptr);
  EXPECT_NE(cache->find("a"), nullptr);
  EXPECT_NE(cache->find("c"), nullptr);
  cache->keep("large", {values(outside, 4096, 1).tensor});
  EXPECT_EQ(cache->find("large"), nullptr);
  EXPECT_NE(cache->find("c"), nullptr);  // which made no room in vain
  EXPECT_LE(host.peak_bytes(), 3u * 4096);
}

TEST(ConditionCache, IsNotOpenedWhereItsLimitIsNotLeft) {
  Budget host(4096);
  EXPECT_EQ(ConditionCache::open(host, 8192).status().code(), ErrorCode::kOutOfMemory);
}

Expected<std::vector<uint8_t>> video_of(Engine& engine, const GenerateRequest& job) {
  std::vector<uint8_t> rgb;
  LA_RETURN_IF_ERROR(engine.generate(job, [&](const VideoChunk& c) {
    rgb.insert(rgb.end(), c.rgb, c.rgb + c.frames * c.height * c.width * 3);
    return true;
  }));
  return rgb;
}

// The text encoder's file ends early after the first job: whoever reads it again fails.
TEST(CachedJobs, TheSecondWithTheSamePromptDoesNotReadTheTextEncoder) {
  const TempDir dir;
  EngineOptions options = mini_options();
  fs::copy(options.checkpoint_dir, dir / "mini", fs::copy_options::recursive);
  options.checkpoint_dir = dir.file("mini");
  options.cache_bytes = 8 << 20;
  auto engine = *Engine::load(options);
  GenerateRequest job = mini_job();
  const std::vector<uint8_t> first = *video_of(*engine, job);
  fs::resize_file(Checkpoint::open(options)->get()->paths.text_encoder, 1000);
  EXPECT_EQ(*video_of(*engine, job), first);
  job.prompt = "another";
  EXPECT_FALSE(video_of(*engine, job).ok());
}

// A cached portrait leaves nothing but its latents in the session's budget, not even for a moment.
TEST(CachedJobs, TheSecondWithTheSamePortraitDoesNotRunTheEncoder) {
  EngineOptions options = mini_options();
  options.cache_bytes = 8 << 20;
  auto models = *load_models(options);
  JobShape shape = models->checkpoint->shape();
  shape.height = 64;
  shape.width = 128;
  Image black{64, 128, std::vector<uint8_t>(64 * 128 * 3)}, other = black;
  other.rgb[5] = 1;
  struct Taken {
    size_t peak_bytes, used_bytes;
  };
  auto encode = [&](const Image& portrait) {
    auto budget = *Budget::open_within(*models->budget, Budget::kUnlimited);
    VideoSession session(*models, *budget, shape, {});
    const auto latents = session.encode_portrait(portrait);
    EXPECT_TRUE(latents.ok());
    return Taken{budget->peak_bytes(), budget->used_bytes()};
  };
  const Taken first = encode(black), again = encode(black), changed = encode(other);
  EXPECT_GT(first.peak_bytes, first.used_bytes);
  EXPECT_EQ(again.peak_bytes, again.used_bytes);
  EXPECT_EQ(changed.peak_bytes, first.peak_bytes);
}

TEST(CachedJobs, ACacheThatCannotBeIsRefusedAtLoad) {
  EngineOptions options = mini_options();
  options.cache_bytes = ~size_t{0};
  EXPECT_EQ(Engine::load(options).status().code(), ErrorCode::kInvalidArgument);
  options.cache_bytes = size_t{1} << 30;
  options.memory_budget_bytes = size_t{200} << 20;
  const Status status = Engine::load(options).status();
  EXPECT_EQ(status.code(), ErrorCode::kOutOfMemory);
  EXPECT_NE(status.message().find("`cache_bytes`"), std::string::npos) << status.message();
}

TEST(CachedJobs, ThePlanCountsTheCacheFull) {
  EngineOptions options = mini_options();
  const size_t without = plan_memory(*asked_shape(options, mini_job()))->peak_bytes;
  options.cache_bytes = 8 << 20;
  EXPECT_EQ(plan_memory(*asked_shape(options, mini_job()))->peak_bytes, without + (8 << 20));
  options.memory_budget_bytes = without + (8 << 20);
  auto engine = *Engine::load(options);
  ASSERT_TRUE(video_of(*engine, mini_job()).ok());
  ASSERT_TRUE(video_of(*engine, mini_job()).ok());
  EXPECT_LE(engine->memory_peak_bytes(), options.memory_budget_bytes);
}

}  // namespace
}  // namespace liveavatar
