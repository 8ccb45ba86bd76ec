// Live sessions on the mini model, with a clock of the test's, and who listens to them.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <optional>

#include "manual_clock.h"
#include "pipeline/engine.h"
#include "support/resolved.h"
#include "voice.h"

namespace liveavatar {

using namespace std::chrono_literals;
constexpr auto kBlock = 480ms;
constexpr int kRate = 16000;
constexpr size_t kBlockSamples = 7680;

inline LiveRequest request_at(int rate_hz = kRate, uint64_t seed = 420) {
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

}  // namespace liveavatar
