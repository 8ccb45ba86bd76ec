// Whole jobs with the mini checkpoint through the public API: same seed same video, stop, offline decode, budget, bad
// input.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <stop_token>
#include <thread>
#include <vector>

#include "support/mini.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

struct Result {
  Status status;
  std::vector<uint8_t> rgb;
  int64_t frames = 0;
};

Result run(Engine& engine, const GenerateRequest& job, int64_t stop_after_frames = 1 << 30) {
  Result result;
  result.status = engine.generate(job, [&](const VideoChunk& block) {
    EXPECT_EQ(block.first_frame, result.frames);
    result.rgb.insert(result.rgb.end(), block.rgb, block.rgb + block.frames * block.height * block.width * 3);
    result.frames += block.frames;
    return result.frames < stop_after_frames;
  });
  return result;
}

std::unique_ptr<Engine> engine(int threads = 2) {
  auto loaded = Engine::load(mini_options(threads));
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
  return *std::move(loaded);
}

TEST(Generate, SameSeedSameVideoOnAnyNumberOfThreadsAndAtAnyLength) {
  Result one = run(*engine(1), mini_job(2)), three = run(*engine(3), mini_job(2));
  ASSERT_TRUE(one.status.ok()) << one.status.message();
  EXPECT_EQ(one.frames, 48);
  EXPECT_EQ(one.rgb, three.rgb);
  Result longer = run(*engine(), mini_job(4));
  EXPECT_EQ(longer.frames, 96);
  EXPECT_TRUE(std::equal(one.rgb.begin(), one.rgb.end(), longer.rgb.begin()));
  GenerateRequest other = mini_job(2);
  other.seed = 421;
  EXPECT_NE(run(*engine(), other).rgb, one.rgb);
}

TEST(Generate, DecodingAtTheEndGivesTheSameFrames) {
  auto e = engine();
  GenerateRequest job = mini_job(2);
  Result online = run(*e, job);
  job.online_decode = false;
  Result offline = run(*e, job);
  EXPECT_TRUE(offline.status.ok());
  EXPECT_EQ(online.rgb, offline.rgb);
}

TEST(Generate, ThrowingOrEmptyCallbacksReturnAStatus) {
  auto e = engine();
  EXPECT_EQ(e->generate(mini_job(1), {}).code(), ErrorCode::kInvalidArgument);
  Status thrown = e->generate(mini_job(1), [](const VideoChunk&) -> bool { throw std::runtime_error("disk is full"); });
  EXPECT_EQ(thrown.code(), ErrorCode::kCancelled);
  EXPECT_NE(thrown.message().find("on_chunk threw an exception: disk is full"), std::string::npos) << thrown.message();
  GenerateRequest job = mini_job(1);
  job.on_progress = [](const Progress&) { throw 5; };
  Status progress = e->generate(job, [](const VideoChunk&) { return true; });
  EXPECT_NE(progress.message().find("on_progress threw"), std::string::npos) << progress.message();
  GenerateRequest odd = mini_job(1);
  odd.prompt = "caf\xe8";
  EXPECT_NE(run(*e, odd).status.message().find("UTF-8"), std::string::npos);
  EXPECT_TRUE(run(*e, mini_job(1)).status.ok());  // the engine goes on
}

// From the thread that runs the job and from another; the job that runs goes on as if nothing had happened.
TEST(Generate, ASecondJobAtTheSameTimeIsRefusedAndDescribeIsNot) {
  auto e = engine();
  std::vector<uint8_t> alone = run(*e, mini_job(1)).rgb, disturbed;
  Status nested, beside, described;
  Status whole = e->generate(mini_job(1), [&](const VideoChunk& block) {
    nested = e->generate(mini_job(1), [](const VideoChunk&) { return true; });
    std::thread other([&] {
      beside = run(*e, mini_job(1)).status;
      described = e->describe(mini_job(1)).status();
    });
    other.join();
    disturbed.insert(disturbed.end(), block.rgb, block.rgb + block.frames * block.height * block.width * 3);
    return true;
  });
  EXPECT_TRUE(whole.ok()) << whole.message();
  EXPECT_EQ(nested.code(), ErrorCode::kUnsupported);
  EXPECT_EQ(beside.code(), ErrorCode::kUnsupported);
  EXPECT_NE(beside.message().find("running a job already"), std::string::npos) << beside.message();
  EXPECT_TRUE(described.ok()) << described.message();
  EXPECT_EQ(alone, disturbed);
  EXPECT_TRUE(run(*e, mini_job(1)).status.ok());
}

// Loaded, described and destroyed by threads of their own.
TEST(Generate, EnginesOfOneProcessAreIndependent) {
  std::vector<Result> results(2);
  std::vector<std::thread> threads;
  for (Result& result : results) threads.emplace_back([&result] { result = run(*engine(1), mini_job(1)); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(results[0].status.ok()) << results[0].status.message();
  EXPECT_FALSE(results[0].rgb.empty());
  EXPECT_EQ(results[0].rgb, results[1].rgb);
}

TEST(Generate, HoldsTheFirstGoodFrame) {
  Result r = run(*engine(), mini_job());
  size_t frame = 64 * 64 * 3;
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(std::memcmp(&r.rgb[i * frame], &r.rgb[3 * frame], frame), 0);
  EXPECT_NE(std::memcmp(&r.rgb[3 * frame], &r.rgb[4 * frame], frame), 0);
}

TEST(Generate, AVideoIsAsLongAsItsVoice) {
  auto e = engine();
  GenerateRequest job = mini_job(0);
  auto info = e->describe(job);
  ASSERT_TRUE(info.ok()) << info.status().message();
  EXPECT_EQ(info->frames, 249);  // 9.94 s
  EXPECT_EQ(info->blocks, 21);
  job.num_clip = 10000;
  EXPECT_EQ(e->describe(job)->frames, 249);
  EXPECT_EQ(info->width, 64);
}

// Frames come as they are decoded, and a stop is obeyed at once.
TEST(Generate, StopIsObeyedInTheMiddleOfABlock) {
  for (int64_t frames : {4, 24, 32}) {
    Result r = run(*engine(), mini_job(4), frames);
    EXPECT_EQ(r.status.code(), ErrorCode::kCancelled);
    EXPECT_EQ(r.frames, frames);
  }
}

TEST(Generate, AnEngineRunsManyJobsIndependently) {
  auto e = engine();
  Result first = run(*e, mini_job());
  size_t used = e->memory_used_bytes();
  Result second = run(*e, mini_job());
  EXPECT_EQ(first.rgb, second.rgb);
  EXPECT_EQ(e->memory_used_bytes(), used);
}

// From another thread, while the prompt is encoded: nothing is sampled, and the engine takes the next job.
TEST(Generate, AnotherThreadStopsTheFirstStages) {
  auto e = engine();
  std::stop_source source;
  std::vector<Stage> stages;
  GenerateRequest request = mini_job(1);
  request.on_progress = [&](const Progress& progress) {
    stages.push_back(progress.stage);
    std::jthread([&source] { source.request_stop(); }).join();
  };
  int64_t chunks = 0;
  auto count = [&](const VideoChunk&) {
    ++chunks;
    return true;
  };
  EXPECT_EQ(e->generate(request, count, source.get_token()).code(), ErrorCode::kCancelled);
  EXPECT_EQ(stages, std::vector<Stage>{Stage::kText});
  EXPECT_EQ(e->generate(request, count, source.get_token()).code(), ErrorCode::kCancelled);  // asked for before
  EXPECT_EQ(chunks, 0);
  request.on_progress = nullptr;
  EXPECT_TRUE(e->generate(request, count).ok());
  EXPECT_EQ(chunks, 6);
}

TEST(Generate, MemoryDoesNotGrowWithTheVideo) {
  auto e = engine();
  std::vector<size_t> used;
  Status status = e->generate(mini_job(5), [&](const VideoChunk&) {
    used.push_back(e->memory_used_bytes());
    return true;
  });
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(used.front(), used.back());
}

TEST(Generate, ABudgetThatIsTooSmallIsSaidSo) {
  EngineOptions o = mini_options();
  o.memory_budget_bytes = 4 << 20;
  auto e = Engine::load(o);
  ASSERT_FALSE(e.ok());
  EXPECT_EQ(e.status().code(), ErrorCode::kOutOfMemory);
  o.memory_budget_bytes = engine()->memory_used_bytes() + (2 << 20);  // the weights and little else
  auto tight = Engine::load(o);
  ASSERT_TRUE(tight.ok()) << tight.status().message();
  EXPECT_EQ(run(**tight, mini_job()).status.code(), ErrorCode::kOutOfMemory);
}

// Stereo that cancels moves the mouth as the mono voice does, and is said.
TEST(Generate, AntiphaseStereoIsMixedAudiblyWithANote) {
  auto e = engine();
  GenerateRequest job = mini_job();
  job.audio = std::string(LA_SOURCE_DIR) + "/tests/cases/v1.wav";
  EXPECT_TRUE(e->describe(job)->notes.empty());
  Result plain = run(*e, job);
  job.audio = std::string(LA_SOURCE_DIR) + "/tests/cases/antiphase.wav";
  auto info = e->describe(job);
  ASSERT_TRUE(info.ok()) << info.status().message();
  ASSERT_EQ(info->notes.size(), 1u);
  EXPECT_NE(info->notes[0].find("left"), std::string::npos);
  Result cancelled = run(*e, job);
  ASSERT_TRUE(cancelled.status.ok()) << cancelled.status.message();
  EXPECT_EQ(plain.rgb, cancelled.rgb);
}

// Sizes that no memory holds are an error like others, and nothing is thrown.
TEST(VideoFile, ImpossibleSizesAreAnErrorAndNothingIsThrown) {
  JobInfo info;
  info.width = info.height = int64_t{1} << 30;
  info.frames = 1;
  const TempDir dir;
  std::string file = dir.file("huge.mp4");
  EXPECT_NO_THROW({
    auto video = VideoFile::create(file, info, "");
    EXPECT_FALSE(video.ok());
  });
  info.width = info.height = 64;
  EXPECT_EQ(VideoFile::create(file, info, "/nowhere.wav").status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(VideoFile::create(dir.file("a.gif"), info, "").status().code(), ErrorCode::kInvalidArgument);
}

// What would read beyond the frames, or wait for ever.
TEST(VideoFile, RefusesBlocksOfTheWrongSize) {
  JobInfo info;
  info.width = info.height = 64;
  const TempDir dir;
  auto video = VideoFile::create(dir.file("fit.mp4"), info, "");
  ASSERT_TRUE(video.ok()) << video.status().message();
  std::vector<uint8_t> rgb(64 * 64 * 3);
  const VideoChunk good{0, 1, 64, 64, rgb.data()};
  EXPECT_TRUE((*video)->append(good).ok());
  EXPECT_EQ((*video)->append({1, 1, 128, 64, rgb.data()}).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ((*video)->append({1, 1, 64, 64, nullptr}).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ((*video)->append({1, -1, 64, 64, rgb.data()}).code(), ErrorCode::kInvalidArgument);
  EXPECT_TRUE((*video)->append(good).ok());
  EXPECT_TRUE((*video)->finish().ok());
  EXPECT_TRUE((*video)->finish().ok());
  for (int i = 0; i < 8; ++i) EXPECT_EQ((*video)->append(good).code(), ErrorCode::kInvalidArgument);
}

TEST(Generate, InvalidNumbersAreRefusedAndFrameCountsRounded) {
  auto e = engine();
  auto refused = [&](auto change) {
    GenerateRequest job = mini_job();
    change(job);
    auto info = e->describe(job);
    EXPECT_FALSE(info.ok());
    return info.status().code();
  };
  EXPECT_EQ(refused([](GenerateRequest& j) { j.size = "big"; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](GenerateRequest& j) { j.size = "0*400"; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](GenerateRequest& j) { j.sample_steps = 0; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](GenerateRequest& j) { j.infer_frames = -4; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](GenerateRequest& j) { j.image = "/nowhere.png"; }), ErrorCode::kNotFound);
  EXPECT_EQ(refused([](GenerateRequest& j) { j.audio = kSource + "/README.md"; }), ErrorCode::kCorrupt);
  GenerateRequest job = mini_job(1);
  job.infer_frames = 32;
  EXPECT_EQ(e->describe(job)->frames, 36);
}

}  // namespace
}  // namespace liveavatar
