// Engines, and models with several sessions, at the same time on threads of their own: each result is, to the bit, that
// of a run alone. The quick tests run this under TSan.
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <thread>

#include "session_video.h"
#include "support/mini.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

// Runs them all, each on its own thread, from one start.
void at_the_same_time(const std::vector<std::function<void()>>& work) {
  std::barrier start(static_cast<std::ptrdiff_t>(work.size()));
  std::vector<std::thread> threads;
  for (const auto& run : work) {
    threads.emplace_back([&start, &run] {
      start.arrive_and_wait();
      run();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// What one engine makes of a job: its frames, and the video file that they were written to meanwhile.
struct Made {
  std::vector<uint8_t> rgb;
  std::string file;
  bool operator==(const Made&) const = default;
};

struct EngineCase {
  EngineOptions options;
  GenerateRequest job;
};

Made make_video(Engine& engine, const GenerateRequest& job, const std::string& path) {
  Made made;
  auto info = engine.describe(job);
  EXPECT_TRUE(info.ok()) << info.status().message();
  auto video = VideoFile::create(path, *info, job.audio);
  EXPECT_TRUE(video.ok()) << video.status().message();
  Status status = engine.generate(job, [&](const VideoChunk& block) {
    made.rgb.insert(made.rgb.end(), block.rgb, block.rgb + block.frames * block.height * block.width * 3);
    return (*video)->append(block).ok();
  });
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_TRUE((*video)->finish().ok());
  std::ifstream file(path, std::ios::binary);
  made.file.assign(std::istreambuf_iterator<char>(file), {});
  return made;
}

// As little as goes through every stage: a sanitizer runs it in a minute.
GenerateRequest small_job() {
  GenerateRequest job = mini_job(1);
  job.infer_frames = 12;
  job.sample_steps = 2;
  return job;
}

// In memory and with one thread; with narrow types; with keys and values on disk, several blocks at a time.
std::vector<EngineCase> engine_cases(const std::string& paging_dir) {
  std::vector<EngineCase> cases(3, {mini_options(2), small_job()});
  cases[0].options.threads = 1;
  cases[1].options.weights_dtype = WeightsType::kInt8;
  cases[1].options.kv_dtype = KvType::kFp8;
  cases[1].job.seed = 7;
  cases[2].options.offload_kv_cache = true;
  cases[2].options.paging_dir = paging_dir;
  cases[2].job.infer_frames = 24;  // two blocks side by side
  cases[2].job.schedule = Schedule::kWavefront;
  cases[2].job.seed = 8;
  return cases;
}

TEST(Concurrency, EnginesGiveTheVideosOfEachAlone) {
  const TempDir dir;
  const std::vector<EngineCase> cases = engine_cases(dir.string());
  std::vector<Made> alone;
  for (const EngineCase& c : cases)
    alone.push_back(make_video(**Engine::load(c.options), c.job, dir.file("alone.mp4")));
  std::vector<Made> beside(cases.size());
  std::vector<std::function<void()>> work;
  for (size_t i = 0; i < cases.size(); ++i) {
    work.emplace_back([&, i] {
      auto engine = *Engine::load(cases[i].options);
      beside[i] = make_video(*engine, cases[i].job, dir.file(std::to_string(i) + ".mp4"));
    });
  }
  at_the_same_time(work);
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_FALSE(alone[i].rgb.empty());
    EXPECT_TRUE(beside[i] == alone[i]) << "engine " << i;
  }
}

// What docs/library.md allows to any thread while a job runs.
TEST(Concurrency, QuestionsToAnEngineDoNotDisturbItsJob) {
  const TempDir dir;
  auto engine = *Engine::load(mini_options());
  const Made alone = make_video(*engine, small_job(), dir.file("alone.mp4"));
  Made asked;
  std::atomic<bool> done = false;
  std::atomic<int64_t> questions = 0;
  auto ask = [&] {
    while (!done || questions == 0) {
      EXPECT_TRUE(engine->describe(small_job()).ok());
      EXPECT_GE(engine->memory_peak_bytes(), engine->memory_used_bytes());
      EXPECT_FALSE(engine->memory_by_category().empty());
      ++questions;
    }
  };
  auto generate = [&] {
    asked = make_video(*engine, small_job(), dir.file("asked.mp4"));
    done = true;
  };
  at_the_same_time({generate, ask, ask});
  EXPECT_TRUE(asked == alone) << "after " << questions << " questions";
}

// Two models with their backends, a thread each; on each several sessions that share a pass over the weights.
TEST(Concurrency, SessionsOfSeveralModelsGiveTheBitsOfEachAlone) {
  const std::vector<VideoKind> kinds{{64, 64, 2, Schedule::kSequential, 1}, {64, 64, 2, Schedule::kWavefront, 2}};
  std::vector<std::vector<float>> alone;
  {
    auto models = *load_models(mini_options(1));
    auto pages = *models->dit->open_weight_groups({models->shapes().dit.layers}, *models->budget);
    for (const VideoKind& kind : kinds) alone.push_back(latents_together(*models, *pages, {kind}).front());
  }
  std::vector<std::vector<std::vector<float>>> together(2);
  std::vector<std::function<void()>> work;
  for (auto& mine : together) {
    work.emplace_back([&] {
      auto models = *load_models(mini_options(2));
      auto pages = *models->dit->open_weight_groups({models->shapes().dit.layers}, *models->budget);
      mine = latents_together(*models, *pages, kinds);
    });
  }
  at_the_same_time(work);
  for (const auto& mine : together) EXPECT_TRUE(mine == alone);
}

}  // namespace
}  // namespace liveavatar
