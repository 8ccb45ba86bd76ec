// decode_threads: one thread samples, one decodes, the caller's delivers. The frames are those of one thread, and
// whatever ends the job in its middle ends both threads.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <stop_token>
#include <thread>

#include "support/mini.h"
#include "support/sanitized.h"

namespace liveavatar {
namespace {

constexpr int64_t kChunksPerBlock = 3;

// While the first is decoded and delivered, the second is sampled and waits for a place in the queue.
GenerateRequest two_blocks() {
  GenerateRequest job = mini_job(2);
  job.infer_frames = 12;
  job.sample_steps = 1;
  return job;
}

int64_t threads_of_process() { return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}); }

class DecodeBeside : public ::testing::Test {
 protected:
  static std::unique_ptr<Engine> engine(int decode_threads) {
    EngineOptions options = mini_options();
    options.decode_threads = decode_threads;
    return *Engine::load(options);
  }
  static std::vector<uint8_t> frames_of(Engine& engine) {
    std::vector<uint8_t> rgb;
    Status status = engine.generate(two_blocks(), [&](const VideoChunk& chunk) {
      rgb.insert(rgb.end(), chunk.rgb, chunk.rgb + chunk.frames * chunk.height * chunk.width * 3);
      return true;
    });
    EXPECT_TRUE(status.ok()) << status.message();
    return rgb;
  }
  // A joined thread's entry in /proc goes a moment after the join.
  static void expect_joined() {
    for (int i = 0; i < 500 && threads_of_process() > threads_; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(threads_of_process(), threads_);
  }

  // The jobs end in their middle, and the engine goes on: one for all tests.
  static void SetUpTestSuite() {
    engine_ = engine(1);
    want_ = frames_of(*engine_);  // first run: scratch that stays is there then
    threads_ = threads_of_process();
    used_bytes_ = engine_->memory_used_bytes();
  }
  static void TearDownTestSuite() { engine_.reset(); }
  void TearDown() override {
    expect_joined();
    EXPECT_EQ(engine_->memory_used_bytes(), used_bytes_);
    if (!kSanitized) {
      EXPECT_EQ(frames_of(*engine_), want_);
    }
  }

  static inline std::unique_ptr<Engine> engine_;
  static inline std::vector<uint8_t> want_;
  static inline int64_t threads_ = 0;
  static inline size_t used_bytes_ = 0;
};

TEST_F(DecodeBeside, GivesTheFramesOfOneThread) {
  EXPECT_FALSE(want_.empty());
  EXPECT_EQ(frames_of(*engine(0)), want_);
}

// In the first chunk, and in the last block when the other thread has nothing left to do.
TEST_F(DecodeBeside, AnOnChunkThatThrowsEndsTheJobAndItsThreads) {
  for (int64_t good : {int64_t{0}, kChunksPerBlock + 1}) {
    int64_t chunks = 0;
    Status status = engine_->generate(two_blocks(), [&](const VideoChunk&) {
      if (chunks == good) throw std::runtime_error("disk is full");
      ++chunks;
      return true;
    });
    EXPECT_EQ(status.code(), ErrorCode::kCancelled);
    EXPECT_NE(status.message().find("on_chunk threw an exception: disk is full"), std::string::npos)
        << status.message();
    EXPECT_EQ(chunks, good);
    expect_joined();
  }
}

// Before there are two threads, and of either of them.
TEST_F(DecodeBeside, AnOnProgressThatThrowsEndsTheJobAndItsThreads) {
  for (Stage stage : {Stage::kText, Stage::kSample, Stage::kDecode, Stage::kWrite}) {
    const int64_t block = stage == Stage::kText ? 0 : 1;
    int64_t calls_after = 0;
    bool thrown = false;
    GenerateRequest job = two_blocks();
    job.on_progress = [&](const Progress& progress) {
      calls_after += int64_t{thrown};
      if (progress.stage != stage || progress.block != block) return;
      thrown = true;
      throw 5;
    };
    Status status = engine_->generate(job, [](const VideoChunk&) { return true; });
    EXPECT_EQ(status.code(), ErrorCode::kCancelled) << int(stage);
    EXPECT_NE(status.message().find("on_progress threw"), std::string::npos) << status.message();
    EXPECT_EQ(calls_after, 0);
    expect_joined();
  }
}

TEST_F(DecodeBeside, AStopEndsTheJobAndItsThreads) {
  std::stop_source source;
  int64_t chunks = 0;
  const ChunkCallback stops = [&](const VideoChunk&) {
    ++chunks;
    source.request_stop();
    return true;
  };
  EXPECT_EQ(engine_->generate(two_blocks(), stops, source.get_token()).code(), ErrorCode::kCancelled);
  EXPECT_EQ(chunks, 1);
  expect_joined();
  chunks = 0;
  const ChunkCallback refuses = [&](const VideoChunk&) { return ++chunks < kChunksPerBlock + 2; };
  EXPECT_EQ(engine_->generate(two_blocks(), refuses).code(), ErrorCode::kCancelled);
  EXPECT_EQ(chunks, kChunksPerBlock + 2);
}

}  // namespace
}  // namespace liveavatar
