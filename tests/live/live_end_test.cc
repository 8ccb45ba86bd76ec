// How live sessions end, are late and are refused. Time is a test's.
#include <future>
#include <stdexcept>

#include "live_fixture.h"

namespace liveavatar {
namespace {

TEST_F(LiveSessions, OneThatDoesNotFitIsRefusedBeforeAnythingIsAllocated) {
  const size_t used = models_->budget->used_bytes();
  const MemoryPlan plan = resolve_live(*models_->checkpoint, request_at())->plan;
  const size_t wanted = used + plan.session_bytes + plan.scratch_bytes;
  for (size_t missing : {size_t{1}, size_t{0}}) {
    EngineOptions options = mini_options();
    options.memory_budget_bytes = wanted - missing;
    auto models = *load_models(options);
    ASSERT_EQ(models->budget->used_bytes(), used);
    const size_t peak = models->budget->peak_bytes();
    std::atomic<bool> taken = false;
    Listener listener;  // the loop's end calls it
    LiveLoop loop(*models, taken, &clock_);
    auto feed = loop.open(request_at(), listener.callbacks());
    ASSERT_EQ(feed.ok(), missing == 0);
    if (missing == 0) continue;
    EXPECT_EQ(feed.status().code(), ErrorCode::kOutOfMemory);
    EXPECT_NE(feed.status().message().find("one more live session takes"), std::string::npos);
    EXPECT_EQ(models->budget->peak_bytes(), peak);
    EXPECT_FALSE(taken);
  }
}

TEST_F(LiveSessions, ACallbackThatThrowsEndsItsSessionAndNoOther) {
  Listener bad, good;
  bad.before = [](const LiveChunk& chunk) -> bool {
    if (chunk.first_frame == 4) throw std::runtime_error("no screen");
    return true;
  };
  auto other = open(request_at(), good);
  ASSERT_TRUE(good.wait_for_frames(kBlockFrames));
  auto session = open(request_at(), bad);
  const Status why = bad.wait_for_end();
  EXPECT_EQ(why.code(), ErrorCode::kCancelled);
  EXPECT_NE(why.message().find("no screen"), std::string::npos);
  EXPECT_EQ(bad.frames(), 4);
  EXPECT_EQ(session->push(Samples(10, 0)).message(), why.message());
  make(good, 1);
  make(good, 2);
  EXPECT_FALSE(good.has_ended());
}

TEST_F(LiveSessions, FalseFromTheCallbackEndsTheSession) {
  Listener listener;
  listener.before = [](const LiveChunk& chunk) { return chunk.first_frame < 8; };
  auto session = open(request_at(), listener);
  EXPECT_EQ(listener.wait_for_end().code(), ErrorCode::kCancelled);
  EXPECT_EQ(listener.frames(), 8);
}

TEST_F(LiveSessions, AStuckCallbackMakesItsSessionLateAndNoOther) {
  std::promise<void> go_on;
  Listener stuck, good;
  stuck.before = [&, wait = go_on.get_future().share()](const LiveChunk&) {
    wait.wait();
    return true;
  };
  auto session = open(request_at(), stuck);
  auto other = open(request_at(), good);
  ASSERT_TRUE(good.wait_for_frames(kBlockFrames));
  for (int64_t b = 1; b <= 6; ++b) make(good, b);
  EXPECT_EQ(stuck.frames(), 0);
  go_on.set_value();
  ASSERT_TRUE(stuck.wait_for_frames(3 * kBlockFrames));
  EXPECT_EQ(stuck.chunks()[0].paused_seconds, 0);
  EXPECT_NEAR(stuck.chunks()[6].paused_seconds, 4 * 0.48, 1e-9);  // two of its blocks had room
  EXPECT_LT(stuck.chunks()[6].late_seconds, 0.48);
}

TEST_F(LiveSessions, ABlockThatBeginsLateSaysSo) {
  Listener listener;
  auto session = open(request_at(), listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  EXPECT_EQ(listener.chunks().back().late_seconds, 0);
  clock_.advance(kBlock + 200ms);
  ASSERT_TRUE(listener.wait_for_frames(2 * kBlockFrames));
  EXPECT_NEAR(listener.chunks().back().late_seconds, 0.2, 1e-9);
  EXPECT_EQ(listener.chunks().back().paused_seconds, 0);
  clock_.advance(280ms);  // the next is due where it would have been
  ASSERT_TRUE(listener.wait_for_frames(3 * kBlockFrames));
  EXPECT_EQ(listener.chunks().back().late_seconds, 0);
}

TEST_F(LiveSessions, ACloseWhileABlockIsMadeEndsItAtOnceAndFreesItsMemory) {
  const size_t models = models_->budget->used_bytes();
  for (int round = 0; round < 4; ++round) {
    Listener listener;
    auto session = open(request_at(), listener);
    if (round % 2 == 1) {
      ASSERT_TRUE(listener.wait_for_frames(4));
    }
    session->close();
    const int64_t frames = listener.frames();
    EXPECT_EQ(models_->budget->used_bytes(), models);
    EXPECT_EQ(session->push(Samples(10, 0)).code(), ErrorCode::kCancelled);
    EXPECT_EQ(session->end_speech().code(), ErrorCode::kCancelled);
    EXPECT_EQ(session->interrupt().status().code(), ErrorCode::kCancelled);
    session->close();
    EXPECT_EQ(listener.frames(), frames);
    EXPECT_FALSE(listener.has_ended());
  }
  EXPECT_FALSE(taken_);
}

TEST_F(LiveSessions, ACloseFromTheCallbackDoesNotWaitForItself) {
  Listener listener;
  std::promise<LiveSession*> opened;
  auto future = opened.get_future().share();
  listener.before = [&](const LiveChunk&) {
    future.get()->close();
    return true;
  };
  auto session = open(request_at(), listener);
  opened.set_value(session.get());
  ASSERT_TRUE(listener.wait_for_frames(4));
  session.reset();
  EXPECT_EQ(listener.frames(), 4);
}

TEST_F(LiveSessions, TheEnginesEndIsTheirs) {
  Listener listener;
  auto session = open(request_at(), listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  loop_.reset();
  EXPECT_EQ(listener.wait_for_end().code(), ErrorCode::kCancelled);
  EXPECT_EQ(session->push(Samples(10, 0)).code(), ErrorCode::kCancelled);
}

TEST_F(LiveSessions, RatesFrom8000To48000AreOpened) {
  for (int rate : {8000, 11025, 48000}) {
    Listener listener;
    auto session = open(request_at(rate), listener);
    ASSERT_NE(session, nullptr);
    ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
    EXPECT_EQ(std::ssize(listener.audio()), block_samples(rate)) << rate;
  }
}

TEST_F(LiveSessions, WhatMakesNoSenseIsRefused) {
  Listener listener;
  auto code = [&](auto change) {
    LiveRequest request = request_at();
    change(request);
    return loop_->open(request, listener.callbacks()).status().code();
  };
  EXPECT_EQ(code([](LiveRequest& r) { r.sample_rate = 44101; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([](LiveRequest& r) { r.look_ahead_seconds = 0.5; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([](LiveRequest& r) { r.context_seconds = std::nan(""); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([](LiveRequest& r) { r.queue_seconds = 0; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([](LiveRequest& r) { r.sample_steps = 0; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([](LiveRequest& r) { r.image = ""; }), ErrorCode::kNotFound);
  EXPECT_EQ(code([](LiveRequest& r) { r.image = "/nowhere.png"; }), ErrorCode::kNotFound);
  EXPECT_EQ(loop_->open(request_at(), {}).status().code(), ErrorCode::kInvalidArgument);
  EXPECT_FALSE(taken_);
}

// Through the public API, at real time.
TEST(LiveEngine, JobsAndLiveSessionsExcludeEachOther) {
  auto engine = *Engine::load(mini_options());
  Listener listener;
  GenerateRequest job = mini_job();
  job.infer_frames = 12;
  ErrorCode inside = ErrorCode::kOk;
  auto run = [&] {
    return engine->generate(job, [&](const VideoChunk&) {
      inside = engine->open_live(request_at(), listener.callbacks()).status().code();
      return true;
    });
  };
  ASSERT_TRUE(run().ok());
  EXPECT_EQ(inside, ErrorCode::kUnsupported);
  auto session = engine->open_live(request_at(), listener.callbacks());
  ASSERT_TRUE(session.ok()) << session.status().message();
  EXPECT_EQ((*session)->width(), 64);
  ASSERT_TRUE(listener.wait_for_frames(24));
  EXPECT_EQ(run().code(), ErrorCode::kUnsupported);
  (*session)->close();
  EXPECT_TRUE(run().ok());
}

}  // namespace
}  // namespace liveavatar
