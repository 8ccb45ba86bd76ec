// Live sessions: frames and sound in step, side by side, and what goes wrong. Time is a test's.
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <stdexcept>

#include "manual_clock.h"
#include "pipeline/engine.h"
#include "support/resolved.h"
#include "support/sanitized.h"
#include "voice.h"

namespace liveavatar {
namespace {

using namespace std::chrono_literals;
constexpr auto kBlock = 480ms;
constexpr int kRate = 16000;
constexpr size_t kBlockSamples = 7680;

LiveRequest request_at(int rate_hz = kRate, uint64_t seed = 420) {
  LiveRequest request;
  request.image = mini_job().image;
  request.prompt = "a test";
  request.size = "64*64";
  request.infer_frames = 24;
  request.seed = seed;
  request.sample_rate = rate_hz;
  return request;
}

// Keeps what a session gives.
class Listener {
 public:
  LiveCallbacks callbacks() {
    return {[this](const LiveChunk& chunk) { return take(chunk); },
            [this](const Status& why) {
              std::lock_guard lock(mutex_);
              ended_ = why;
              changed_.notify_all();
            }};
  }
  std::function<bool(const LiveChunk&)> before = [](const LiveChunk&) { return true; };

  // False: they did not come.
  bool wait_for_frames(int64_t frames) {
    return wait([&] { return frames_ >= frames; });
  }
  Status wait_for_end() {
    EXPECT_TRUE(wait([&] { return ended_.has_value(); }));
    return ended_.value_or(Status());
  }
  std::vector<uint8_t> rgb() { return locked(rgb_); }
  Samples audio() { return locked(audio_); }
  std::vector<LiveChunk> chunks() { return locked(chunks_); }
  int64_t frames() { return locked(frames_); }
  bool has_ended() { return locked(ended_).has_value(); }

 private:
  template <typename Value>
  Value locked(const Value& value) {
    std::lock_guard lock(mutex_);
    return value;
  }
  template <typename Until>
  bool wait(const Until& until) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 120s, until);
  }
  bool take(const LiveChunk& chunk) {
    if (!before(chunk)) return false;
    std::lock_guard lock(mutex_);
    EXPECT_EQ(chunk.first_frame, frames_);
    rgb_.insert(rgb_.end(), chunk.rgb, chunk.rgb + chunk.frames * chunk.height * chunk.width * 3);
    audio_.insert(audio_.end(), chunk.audio, chunk.audio + chunk.samples);
    chunks_.push_back(chunk);
    frames_ += chunk.frames;
    changed_.notify_all();
    return true;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<uint8_t> rgb_;
  Samples audio_;
  std::vector<LiveChunk> chunks_;
  int64_t frames_ = 0;
  std::optional<Status> ended_;
};

class LiveSessions : public ::testing::Test {
 protected:
  std::unique_ptr<LiveSession> open(const LiveRequest& request, Listener& listener) {
    auto feed = loop_->open(request, listener.callbacks());
    EXPECT_TRUE(feed.ok()) << feed.status().message();
    return feed.ok() ? std::make_unique<LiveSession>(*feed) : nullptr;
  }
  // Blocks up to and with this one.
  void make(Listener& listener, int64_t block) {
    clock_.advance(kBlock);
    ASSERT_TRUE(listener.wait_for_frames((block + 1) * kBlockFrames));
  }
  // A silent block, and then the voice, pushed in such pieces at real time.
  struct Made {
    std::vector<uint8_t> rgb;
    Samples audio;
  };
  Made talk(const LiveRequest& request, const Samples& voice, size_t piece, int64_t blocks) {
    Listener listener;
    auto session = open(request, listener);
    EXPECT_TRUE(listener.wait_for_frames(kBlockFrames));
    const size_t each = size_t(block_samples(request.sample_rate));
    for (int64_t b = 1; b < blocks; ++b) {
      push_in_pieces(part(voice, size_t(b - 1) * each, each), piece,
                     [&](auto some) { EXPECT_TRUE(session->push(some).ok()); });
      make(listener, b);
    }
    return {listener.rgb(), listener.audio()};
  }

  ManualClock clock_;
  std::unique_ptr<Models> models_ = *load_models(mini_options());
  std::atomic<bool> taken_ = false;
  std::unique_ptr<LiveLoop> loop_ = std::make_unique<LiveLoop>(*models_, taken_, &clock_);
};

// What a job's own voice is replaced by: a silent block, and then speech.
class HeardLive : public AudioColumns {
 public:
  HeardLive(LiveColumns& columns, LiveSound& sound, const Samples& voice)
      : columns_(columns), sound_(sound), voice_(voice) {}
  int64_t count() const override { return 1; }
  Expected<bool> columns(int64_t first, int64_t count, float* out) override {
    if (first == kBlockFrames) LA_RETURN_IF_ERROR(sound_.push(voice_));
    return columns_.columns(first, count, out);
  }

 private:
  LiveColumns& columns_;
  LiveSound& sound_;
  const Samples& voice_;
};

// Six blocks are three clips: the sink is filled again too.
TEST_F(LiveSessions, FramesAreThoseOfAJobThatHearsTheSame) {
  const Samples voice = demo_voice();
  const LiveRequest request = request_at();
  Listener listener;
  {
    auto session = open(request, listener);
    ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
    ASSERT_TRUE(session->push(voice).ok());
    for (int64_t b = 1; b < 6; ++b) make(listener, b);
  }
  const LiveShape shape = resolve_live(*models_->checkpoint, request)->shape.live;
  LiveSound sound(shape);
  auto columns = *LiveColumns::open(*models_->audio, *models_->budget, shape, sound);
  HeardLive heard(*columns, sound, voice);
  std::vector<uint8_t> rgb;
  RunCalls calls;
  calls.hooks.audio = &heard;
  calls.on_chunk = [&](const VideoChunk& chunk) {
    rgb.insert(rgb.end(), chunk.rgb, chunk.rgb + chunk.frames * chunk.height * chunk.width * 3);
    return true;
  };
  ASSERT_TRUE(run_job(*models_, mini_job(3), calls).ok());
  EXPECT_EQ(listener.rgb(), rgb);
}

TEST_F(LiveSessions, FramesDoNotDependOnHowTheSoundWasCut) {
  const Samples voice = demo_voice();
  const Made whole = talk(request_at(), voice, 0, 4);
  for (size_t piece : {size_t{1}, size_t{320}, size_t{5000}}) {
    const Made cut = talk(request_at(), voice, piece, 4);
    EXPECT_EQ(cut.rgb, whole.rgb) << piece;
    EXPECT_EQ(cut.audio, whole.audio) << piece;
  }
}

TEST_F(LiveSessions, ThePushedSoundComesOutToTheSampleWithItsFrames) {
  const int rate = 44100;
  const Samples voice = demo_voice(rate, 1);
  Listener listener;
  auto session = open(request_at(rate), listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  ASSERT_TRUE(session->push(voice).ok());
  ASSERT_TRUE(session->end_speech().ok());
  for (int64_t b = 1; b < 4; ++b) make(listener, b);
  const size_t block = size_t(block_samples(rate));
  Samples want(block, 0);
  want.insert(want.end(), voice.begin(), voice.end());
  want.resize(4 * block, 0);
  EXPECT_EQ(listener.audio(), want);
  const LiveChunk last = listener.chunks().back();
  EXPECT_EQ(last.samples, 4 * rate / 25);
  EXPECT_EQ(last.sample_rate, rate);
  EXPECT_EQ(last.position.speech, 0);
  EXPECT_EQ(last.position.samples, std::ssize(voice));
  EXPECT_TRUE(last.position.complete);
  EXPECT_FALSE(listener.chunks()[4].position.complete);
}

TEST_F(LiveSessions, FloatSamplesAreThoseIn16Bit) {
  Listener listener;
  auto session = open(request_at(), listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  std::vector<float> samples(kBlockSamples, 0.5f);
  samples[1] = 3;
  ASSERT_TRUE(session->push(samples).ok());
  ASSERT_TRUE(session->end_speech().ok());
  samples[2] = std::nanf("");
  EXPECT_EQ(session->push(samples).code(), ErrorCode::kInvalidArgument);
  make(listener, 1);
  EXPECT_EQ(listener.audio()[kBlockSamples], 16384);
  EXPECT_EQ(listener.audio()[kBlockSamples + 1], 32767);
}

TEST_F(LiveSessions, SpeechIsInTheBlockAfterItCameAndMovesTheMouth) {
  const Made silent = talk(request_at(), Samples(2 * kBlockSamples, 0), 0, 3);
  const Made spoken = talk(request_at(), demo_voice(), 0, 3);
  const size_t block = spoken.rgb.size() / 3;
  EXPECT_TRUE(std::equal(spoken.rgb.begin(), spoken.rgb.begin() + int64_t(block), silent.rgb.begin()));
  for (int64_t b : {1, 2}) {
    const auto begin = spoken.rgb.begin() + b * int64_t(block);
    EXPECT_FALSE(std::equal(begin, begin + int64_t(block), silent.rgb.begin() + b * int64_t(block))) << b;
  }
}

TEST_F(LiveSessions, AnInterruptionStopsTheSpeechWithinABlock) {
  Listener listener;
  auto session = open(request_at(), listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  ASSERT_TRUE(session->push(Samples(3 * kBlockSamples, 1000)).ok());
  make(listener, 1);
  EXPECT_GT(listener.chunks().back().queued_samples, 0);
  const Expected<LivePosition> at = session->interrupt();
  ASSERT_TRUE(at.ok());
  EXPECT_EQ(at->speech, 0);
  EXPECT_EQ(at->samples, int64_t(kBlockSamples));
  EXPECT_TRUE(at->complete);
  make(listener, 2);
  Samples want(kBlockSamples, 0);
  want.resize(2 * kBlockSamples, 1000);
  want.resize(3 * kBlockSamples, 0);
  EXPECT_EQ(listener.audio(), want);
}

TEST_F(LiveSessions, TwoSideBySideHaveTheBitsOfEachAlone) {
  const Samples voice = demo_voice();
  const Made first = talk(request_at(kRate, 1), voice, 0, 4);
  const Made second = talk(request_at(kRate, 2), Samples(), 0, 3);
  EXPECT_NE(first.rgb, second.rgb);
  Listener a, b;
  auto one = open(request_at(kRate, 1), a);
  ASSERT_TRUE(a.wait_for_frames(kBlockFrames));
  clock_.advance(1ms);
  auto other = open(request_at(kRate, 2), b);  // due with the next block of the first
  for (int64_t block = 1; block < 4; ++block) {
    ASSERT_TRUE(one->push(part(voice, size_t(block - 1) * kBlockSamples, kBlockSamples)).ok());
    clock_.advance(kBlock);
    ASSERT_TRUE(a.wait_for_frames((block + 1) * kBlockFrames));
    ASSERT_TRUE(b.wait_for_frames(block * kBlockFrames));
  }
  EXPECT_EQ(a.rgb(), first.rgb);
  EXPECT_EQ(b.rgb(), second.rgb);
}

TEST_F(LiveSessions, MemoryIsAsPlannedAndStaysSo) {
  const size_t models = models_->budget->used_bytes();
  const LiveJob live = *resolve_live(*models_->checkpoint, request_at());
  Listener listener;
  auto session = open(request_at(), listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  EXPECT_EQ(models_->budget->used_bytes(), live.plan.steady_bytes);
  const size_t peak = models_->budget->peak_bytes();
  constexpr int64_t kBlocks = kSanitized ? 30 : 200;
  const Samples voice = demo_voice(kRate, 9);
  for (int64_t b = 1; b < kBlocks; ++b) {
    const size_t at = size_t(b - 1) * kBlockSamples % voice.size();
    ASSERT_TRUE(session->push(part(voice, at, kBlockSamples)).ok());
    if (b % 7 == 0) {
      ASSERT_TRUE(session->end_speech().ok());
    }
    if (b % 11 == 0) {
      ASSERT_TRUE(session->interrupt().ok());
    }
    make(listener, b);
  }
  EXPECT_EQ(models_->budget->used_bytes(), live.plan.steady_bytes);
  EXPECT_EQ(models_->budget->peak_bytes(), peak);
  session->close();
  EXPECT_EQ(models_->budget->used_bytes(), models);
}

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
