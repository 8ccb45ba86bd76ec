// A microphone whose clock is not the engine's: pauses take the difference up, and no word loses a sample.
#include <gtest/gtest.h>

#include "live_fixture.h"
#include "session/live_sound.h"

namespace liveavatar {
namespace {

constexpr int64_t kFrame = kRate / 50;

LiveShape shape_of(bool microphone) {
  LiveShape shape;
  shape.rate_hz = kRate;
  shape.microphone = microphone;
  return shape;
}

// Sample i of what is said: 1.4 s of words, 0.6 s of noise.
int16_t said(int64_t i) {
  const bool word = i % (2 * kRate) < 7 * kRate / 5;
  return word ? int16_t(8000 + i % 1000) : int16_t(i % 7 - 3);
}
bool is_word(int16_t sample) { return sample >= 8000; }

struct Heard {
  Samples out;
  int64_t gaps = 0, pushed = 0;
  std::vector<int64_t> queued;  // after each block
};

// A clock that is faster by `ppm`; a packet of `packet` samples at a time.
Heard listen(LiveSound& sound, int64_t blocks, int64_t ppm, int64_t packet = kFrame) {
  Heard heard;
  const int64_t waiting = sound.queued_samples();
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t until = (b + 1) * int64_t(kBlockSamples) * (1000000 + ppm) / 1000000 + kFrame;
    while (heard.pushed + packet <= until) {
      Samples samples;
      for (int64_t i = 0; i < packet; ++i) samples.push_back(said(heard.pushed + i));
      EXPECT_TRUE(sound.push(samples).ok());
      heard.pushed += packet;
    }
    sound.place(b);
    heard.out.insert(heard.out.end(), sound.samples().begin(), sound.samples().end());
    heard.queued.push_back(sound.queued_samples());
    const SpeechPosition at = sound.position(11);
    EXPECT_LE(at.speech, 0);
    EXPECT_LE(at.samples, waiting + heard.pushed - sound.queued_samples());
  }
  heard.gaps = sound.gaps();
  return heard;
}

Samples words(const Samples& samples) {
  Samples only;
  std::copy_if(samples.begin(), samples.end(), std::back_inserter(only), is_word);
  return only;
}

void expect_all_words(const Heard& heard) {
  Samples pushed;
  for (int64_t i = 0; i < heard.pushed; ++i) pushed.push_back(said(i));
  const Samples in = words(pushed), out = words(heard.out);
  ASSERT_GT(out.size(), in.size() * 9 / 10);
  EXPECT_TRUE(std::equal(out.begin(), out.end(), in.begin()));
}

TEST(LiveMicrophone, AFastClockDoesNotMakeItLate) {
  LiveSound plain(shape_of(false)), microphone(shape_of(true));
  const Heard before = listen(plain, 300, 2000), after = listen(microphone, 300, 2000);
  EXPECT_GT(before.queued.back(), 3500);
  EXPECT_LT(*std::max_element(after.queued.begin() + 20, after.queued.end()), 4 * kFrame);
  EXPECT_EQ(after.gaps, 0);
  expect_all_words(before);
  expect_all_words(after);
}

TEST(LiveMicrophone, ASlowClockLeavesNoGaps) {
  LiveSound plain(shape_of(false)), microphone(shape_of(true));
  const Heard before = listen(plain, 300, -2000), after = listen(microphone, 300, -2000);
  EXPECT_GT(before.gaps, 0);
  EXPECT_EQ(after.gaps, 0);
  expect_all_words(after);
}

TEST(LiveMicrophone, TheSameClockChangesNothing) {
  LiveSound plain(shape_of(false)), microphone(shape_of(true));
  EXPECT_EQ(listen(microphone, 100, 0).out, listen(plain, 100, 0).out);
}

// Packets of 300 ms: what waits for a moment is not late.
TEST(LiveMicrophone, IrregularPacketsAreNoDrift) {
  LiveShape shape = shape_of(true);
  shape.look_ahead_ms = 320;
  LiveSound microphone(shape);
  const Heard heard = listen(microphone, 100, 0, 4800);
  shape.microphone = false;
  LiveSound plain(shape);
  EXPECT_EQ(heard.out, listen(plain, 100, 0, 4800).out);
}

TEST(LiveMicrophone, WhatWaitsAtTheBeginningIsMadeUpFor) {
  LiveSound microphone(shape_of(true));
  Samples waiting;
  for (int64_t i = 0; i < kRate; ++i) waiting.push_back(said(i + 2 * kRate * 7 / 10));
  ASSERT_TRUE(microphone.push(waiting).ok());
  const Heard heard = listen(microphone, 60, 0);
  EXPECT_GT(heard.queued.front(), kRate / 2);
  EXPECT_LT(heard.queued.back(), 4 * kFrame);
  EXPECT_EQ(heard.gaps, 0);
}

TEST_F(LiveSessions, AMicrophoneThatIsAheadIsHeardAtOnceAgain) {
  for (bool microphone : {false, true}) {
    LiveRequest request = request_at();
    request.microphone = microphone;
    Listener listener;
    auto session = open(request, listener);
    ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
    ASSERT_TRUE(session->push(Samples(kRate, 0)).ok());
    for (int64_t b = 1; b < 12; ++b) {
      ASSERT_TRUE(session->push(Samples(kBlockSamples, 0)).ok());
      make(listener, b);
    }
    if (microphone) {
      EXPECT_LT(listener.chunks().back().queued_samples, 4 * kFrame);
    } else {
      EXPECT_GT(listener.chunks().back().queued_samples, kRate / 2);
    }
  }
}

}  // namespace
}  // namespace liveavatar
