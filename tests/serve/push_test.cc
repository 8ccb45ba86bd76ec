// A push: the session never waits for its target, what the target does not take is counted, and it is tried again.
#include "serve/push.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "media/live_stream.h"
#include "serve/push_targets.h"

namespace liveavatar::serve {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
constexpr int kSide = 2, kFrames = 4, kRate = 8000;

template <typename Condition>
bool comes_true(Condition condition) {
  const auto latest = Clock::now() + std::chrono::seconds(20);
  while (!condition() && Clock::now() < latest) std::this_thread::sleep_for(milliseconds(5));
  return condition();
}

// What the target does with its streams.
struct Target {
  std::atomic<bool> opens = true, takes = true, stuck = false;
  std::atomic<int64_t> opened = 0, frames = 0, first_frame = -1, finished = 0;
};

class FakeStream final : public LiveStream {
 public:
  explicit FakeStream(Target& target) : target_(target) {}
  Status write(const LiveFrames& f) override {
    while (target_.stuck) std::this_thread::sleep_for(milliseconds(2));
    if (!target_.takes) return io_error("gone");
    if (target_.first_frame < 0) target_.first_frame = f.first_frame;
    target_.frames += f.frames;
    return {};
  }
  Status finish() override {
    ++target_.finished;
    return {};
  }

 private:
  Target& target_;
};

class PushTest : public testing::Test {
 protected:
  std::unique_ptr<Push> make() {
    PushCalls calls;
    calls.open = [this](const LiveChunk&, const std::stop_token&) -> Expected<std::unique_ptr<LiveStream>> {
      ++target.opened;
      if (!target.opens) return io_error("refused");
      return std::unique_ptr<LiveStream>(std::make_unique<FakeStream>(target));
    };
    calls.on_trouble = [this](PushTrouble trouble, const Status&) {
      std::atomic<int>& count = trouble == PushTrouble::kSlow ? slow : lost;
      ++count;
    };
    return std::make_unique<Push>(std::move(calls), totals, nullptr);
  }
  void offer(Push& push, int chunks) {
    for (int i = 0; i < chunks; ++i) {
      LiveChunk chunk;
      chunk.first_frame = next_frame;
      chunk.frames = kFrames;
      chunk.width = chunk.height = kSide;
      chunk.rgb = rgb.data();
      chunk.audio = audio.data();
      chunk.samples = std::ssize(audio);
      chunk.sample_rate = kRate;
      push.offer(chunk);
      next_frame += kFrames;
    }
  }

  Target target;
  std::atomic<int> lost = 0, slow = 0;
  const std::shared_ptr<PushCounts> totals = std::make_shared<PushCounts>();
  int64_t next_frame = 0;
  const std::vector<uint8_t> rgb = std::vector<uint8_t>(kFrames * kSide * kSide * 3);
  const std::vector<int16_t> audio = std::vector<int16_t>(kFrames * kRate / 25);
};

TEST_F(PushTest, SendsAllAndFinishesWhenItIsClosed) {
  auto push = make();
  offer(*push, 1);
  ASSERT_TRUE(comes_true([&] { return push->counts().connected.load(); }));
  offer(*push, 9);
  push->close();
  ASSERT_TRUE(comes_true([&] { return push->has_ended(); }));
  EXPECT_EQ(target.frames, 40);
  EXPECT_EQ(target.finished, 1);
  EXPECT_EQ(push->counts().sent_frames, 40);
  EXPECT_EQ(totals->sent_frames, 40);
  EXPECT_EQ(totals->dropped_frames, 0);
  EXPECT_FALSE(totals->connected);
  EXPECT_EQ(lost + slow, 0);
}

TEST_F(PushTest, NeverWaitsForATargetThatIsStuckAndCountsWhatIsDropped) {
  target.stuck = true;
  auto push = make();
  offer(*push, 1);
  ASSERT_TRUE(comes_true([&] { return push->counts().connected.load(); }));
  const auto begin = Clock::now();
  offer(*push, 100);
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(1));
  EXPECT_GE(push->counts().dropped_frames, (100 - int64_t(Push::kMostChunks) - 1) * kFrames);
  target.stuck = false;
  ASSERT_TRUE(comes_true([&] { return push->counts().sent_frames + push->counts().dropped_frames == 101 * kFrames; }));
  EXPECT_EQ(slow, 1);
  EXPECT_EQ(lost, 0);
}

TEST_F(PushTest, ConnectsAgainAndSaysOnceThatItWasLost) {
  auto push = make();
  offer(*push, 2);
  ASSERT_TRUE(comes_true([&] { return push->counts().sent_frames == 8; }));
  target.takes = false;
  target.opens = false;
  ASSERT_TRUE(comes_true([&] {
    offer(*push, 1);
    return push->counts().failures >= 3;
  }));
  EXPECT_EQ(lost, 1);
  EXPECT_FALSE(totals->connected);
  target.takes = target.opens = true;
  target.first_frame = -1;
  ASSERT_TRUE(comes_true([&] {
    offer(*push, 1);
    return push->counts().sent_frames > 8;
  }));
  EXPECT_EQ(push->counts().connections, 2);
  EXPECT_GT(target.first_frame, 8);
  EXPECT_EQ(lost, 1);
  EXPECT_GT(totals->dropped_frames, 0);
}

TEST_F(PushTest, TriesLessOftenWhileTheTargetIsGone) {
  target.opens = false;
  auto push = make();
  const auto end = Clock::now() + milliseconds(1500);
  while (Clock::now() < end) {
    offer(*push, 1);
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_GE(target.opened, 2);
  EXPECT_LE(target.opened, 4);  // at once, at once, after 1 s
}

TEST(PushTargets, RefusesAddressesWithoutTheirSecrets) {
  for (const char* url : {"file.mp4", "-", "http://h/secret", "rtmp://h/secret", "srt://h?passphrase=secret",
                          "whip+https://?secret", ""}) {
    const Status status = PushTargets::create({{"studio", url}}, {}).status();
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument) << url;
    EXPECT_EQ(status.message().rfind("`push` studio: ", 0), 0u) << status.message();
    EXPECT_EQ(status.message().find("secret"), std::string::npos) << status.message();
  }
  const Status twice = PushTargets::create({{"a", "srt://h:1"}, {"a", "srt://h:2"}}, {}).status();
  EXPECT_NE(twice.message().find("given twice"), std::string::npos) << twice.message();
}

TEST(PushTargets, GiveEachTargetToOneSessionAtATime) {
  auto targets = PushTargets::create({{"a", "srt://127.0.0.1:1"}, {"b", "srt://127.0.0.1:2"}}, {});
  ASSERT_TRUE(targets.ok());
  EXPECT_EQ((*targets)->take("c", [](PushTrouble) {}).status().code(), ErrorCode::kNotFound);
  auto first = (*targets)->take("a", [](PushTrouble) {});
  ASSERT_TRUE(first.ok() && *first);
  EXPECT_EQ(*(*targets)->take("a", [](PushTrouble) {}), PushTargets::kBusy);
  EXPECT_NE(*(*targets)->take("b", [](PushTrouble) {}), nullptr);
  (*first)->close();
  EXPECT_NE(*(*targets)->take("a", [](PushTrouble) {}), nullptr);
  std::vector<Gauge> gauges;
  (*targets)->add_gauges(gauges);
  EXPECT_EQ(gauges.size(), 10u);
}

}  // namespace
}  // namespace liveavatar::serve
