// The time line of a live session: what a block has, and how far it has come.
#include "session/live_sound.h"

#include <gtest/gtest.h>

#include <numeric>

#include "voice.h"

namespace liveavatar {
namespace {

constexpr int kRate = 16000;
constexpr size_t kBlock = 7680, kLookAhead = 1280, kFade = 80;  // samples

LiveShape shape_at(int rate_hz = kRate) {
  LiveShape shape;
  shape.rate_hz = rate_hz;
  return shape;
}

// 1, 2, 3, ...: no silence, and each sample can be told from the others.
Samples counting(size_t count, int first = 1) {
  Samples samples(count);
  std::iota(samples.begin(), samples.end(), static_cast<int16_t>(first));
  return samples;
}

Samples placed(LiveSound& sound, int64_t block) {
  sound.place(block);
  return Samples(sound.samples().begin(), sound.samples().end());
}

Samples silence(size_t count) { return Samples(count, 0); }
Samples operator+(Samples a, const Samples& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(LiveSound, WithoutSpeechABlockIsSilence) {
  LiveSound sound(shape_at());
  EXPECT_EQ(placed(sound, 0), silence(kBlock));
  EXPECT_FALSE(sound.voiced());
  EXPECT_EQ(sound.position(11).speech, -1);
  EXPECT_EQ(sound.gaps(), 0);
}

TEST(LiveSound, ASpeechThatWaitsBeginsWithTheNextBlocksFirstSample) {
  LiveSound sound(shape_at());
  placed(sound, 0);
  const Samples speech = counting(20000);
  ASSERT_TRUE(sound.push(speech).ok());
  EXPECT_EQ(placed(sound, 1), part(speech, 0, kBlock));
  EXPECT_TRUE(sound.voiced());
  EXPECT_EQ(placed(sound, 2), part(speech, kBlock, kBlock));
  EXPECT_EQ(placed(sound, 3), part(speech, 2 * kBlock, kBlock) + silence(3 * kBlock - 20000));
}

TEST(LiveSound, AShortSpeechThatHasEndedBeginsWithTheBlockToo) {
  LiveSound sound(shape_at());
  placed(sound, 0);
  ASSERT_TRUE(sound.push(counting(1000)).ok());
  sound.end_speech();
  EXPECT_EQ(placed(sound, 1), counting(1000) + silence(kBlock - 1000));
  EXPECT_EQ(sound.gaps(), 0);
}

// A microphone: each block arrives while the one before is made, the first in its midst.
TEST(LiveSound, WhatArrivesAtRealTimeFollowsWithoutAGap) {
  LiveSound sound(shape_at());
  placed(sound, 0);
  const Samples speech = counting(30000);
  ASSERT_TRUE(sound.push(part(speech, 0, 3000)).ok());
  Samples out = placed(sound, 1);
  for (int64_t block = 2; block < 5; ++block) {
    ASSERT_TRUE(sound.push(part(speech, 3000 + size_t(block - 2) * kBlock, kBlock)).ok());
    out = out + placed(sound, block);
  }
  const Samples want = silence(kBlock + kLookAhead - 3000) + speech;
  EXPECT_EQ(out, part(want, 0, 4 * kBlock));
  EXPECT_EQ(sound.gaps(), 0);
}

TEST(LiveSound, SoundThatIsLateByLessThanTheLookAheadLeavesNoGap) {
  LiveSound sound(shape_at());
  const Samples speech = counting(20000);
  ASSERT_TRUE(sound.push(part(speech, 0, kBlock + kLookAhead)).ok());
  Samples out = placed(sound, 0);
  ASSERT_TRUE(sound.push(part(speech, kBlock + kLookAhead, kBlock - kLookAhead)).ok());
  out = out + placed(sound, 1);
  EXPECT_EQ(out, part(speech, 0, 2 * kBlock));
  EXPECT_EQ(sound.gaps(), 0);
}

TEST(LiveSound, ASpeechThatRunsDryHasAGapAndLosesNothing) {
  LiveSound sound(shape_at());
  const Samples speech = counting(20000);
  ASSERT_TRUE(sound.push(part(speech, 0, kBlock + kLookAhead)).ok());
  Samples out = placed(sound, 0);
  ASSERT_TRUE(sound.push(part(speech, kBlock + kLookAhead, 1000)).ok());
  out = out + placed(sound, 1);
  EXPECT_EQ(sound.gaps(), 1);
  ASSERT_TRUE(sound.push(part(speech, kBlock + kLookAhead + 1000, 20000)).ok());
  sound.end_speech();
  for (int64_t block : {2, 3}) out = out + placed(sound, block);
  std::erase(out, int16_t{0});
  EXPECT_EQ(out, speech);
  EXPECT_EQ(sound.gaps(), 1);
}

TEST(LiveSound, PositionsCountASpeechsSamplesFrameByFrame) {
  LiveSound sound(shape_at());
  ASSERT_TRUE(sound.push(counting(1000)).ok());
  sound.end_speech();
  ASSERT_TRUE(sound.push(counting(500)).ok());
  sound.end_speech();
  placed(sound, 0);
  EXPECT_EQ(sound.position(0).speech, 0);
  EXPECT_EQ(sound.position(0).samples, 640);
  EXPECT_FALSE(sound.position(0).complete);
  EXPECT_EQ(sound.position(1).speech, 1);
  EXPECT_EQ(sound.position(1).samples, 280);
  EXPECT_EQ(sound.position(2).samples, 500);
  EXPECT_TRUE(sound.position(2).complete);
  placed(sound, 1);
  placed(sound, 2);
  EXPECT_EQ(sound.position(11).speech, 1);
  EXPECT_EQ(sound.position(11).samples, 500);
}

TEST(LiveSound, AnInterruptionDropsWhatNoBlockHasAndTellsWhereItStops) {
  LiveSound sound(shape_at());
  ASSERT_TRUE(sound.push(counting(30000)).ok());
  placed(sound, 0);
  const SpeechPosition at = sound.interrupt();
  EXPECT_EQ(at.speech, 0);
  EXPECT_EQ(at.samples, int64_t(kBlock));
  EXPECT_TRUE(at.complete);
  EXPECT_EQ(sound.queued_samples(), 0);
  EXPECT_TRUE(sound.position(11).complete);
  // Of what was looked ahead to 5 ms fade out.
  Samples faded = part(counting(30000), kBlock, kFade);
  for (size_t i = 0; i < kFade; ++i) faded[i] = int16_t(int64_t(faded[i]) * int64_t(kFade - i) / int64_t(kFade + 1));
  EXPECT_EQ(placed(sound, 1), faded + silence(kBlock - kFade));
  ASSERT_TRUE(sound.push(counting(9000, 100)).ok());
  EXPECT_EQ(placed(sound, 2), part(counting(9000, 100), 0, kBlock));
  EXPECT_EQ(sound.position(11).speech, 1);
  EXPECT_EQ(sound.position(11).samples, int64_t(kBlock));
}

TEST(LiveSound, AnInterruptionBeforeASpeechBeganTellsTheOneBefore) {
  LiveSound sound(shape_at());
  ASSERT_TRUE(sound.push(counting(100)).ok());
  sound.end_speech();
  placed(sound, 0);
  ASSERT_TRUE(sound.push(counting(5000)).ok());
  const SpeechPosition at = sound.interrupt();
  EXPECT_EQ(at.speech, 0);
  EXPECT_EQ(at.samples, 100);
  EXPECT_EQ(placed(sound, 1), silence(kBlock));
  EXPECT_EQ(LiveSound(shape_at()).interrupt().speech, -1);
}

TEST(LiveSound, ASecondInterruptionFadesTheSameAndNothingFadesWhereNothingIsKnown) {
  LiveShape shape = shape_at();
  shape.look_ahead_ms = 0;
  LiveSound deaf(shape);
  ASSERT_TRUE(deaf.push(counting(30000)).ok());
  placed(deaf, 0);
  deaf.interrupt();
  EXPECT_EQ(placed(deaf, 1), silence(kBlock));
  LiveSound once(shape_at()), twice(shape_at());
  for (LiveSound* sound : {&once, &twice}) {
    ASSERT_TRUE(sound->push(counting(30000)).ok());
    placed(*sound, 0);
    sound->interrupt();
  }
  twice.interrupt();
  EXPECT_EQ(placed(once, 1), placed(twice, 1));
  EXPECT_EQ(once.position(11).samples, int64_t(kBlock));
}

TEST(LiveSound, AFullQueueTakesNothingAndHasRoomAgain) {
  LiveShape shape = shape_at();
  shape.queue_ms = 1000;
  LiveSound sound(shape);
  ASSERT_TRUE(sound.push(Samples(16000, 1)).ok());
  EXPECT_EQ(sound.push(Samples(1, 1)).code(), ErrorCode::kOutOfMemory);
  placed(sound, 0);
  EXPECT_TRUE(sound.push(Samples(kBlock, 1)).ok());
}

TEST(LiveSound, RatesThatFramesDivideAreTaken) {
  for (int rate : {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000}) {
    EXPECT_TRUE(check_live_rate(rate).ok()) << rate;
    LiveSound sound(shape_at(rate));
    ASSERT_TRUE(sound.push(Samples(size_t(rate), 5)).ok());
    EXPECT_EQ(placed(sound, 0), Samples(size_t(block_samples(rate)), 5)) << rate;
  }
  for (int rate : {0, -16000, 7975, 16001, 48025}) EXPECT_FALSE(check_live_rate(rate).ok()) << rate;
}

// What the model hears of a voice at any rate is nearly what it would at 16 kHz, where soxr made both.
TEST(LiveSound, AnyRateIsHeardAs16kHz) {
  const Samples want = demo_voice(kRate, 0.9);
  for (int rate : {22050, 24000, 44100, 48000}) {
    LiveSound sound(shape_at(rate));
    ASSERT_TRUE(sound.push(demo_voice(rate, 0.9)).ok());
    sound.end_speech();
    std::vector<float> heard(2 * kBlock - 1280);
    sound.place(0);
    sound.resample(0, std::span(heard).first(kBlock));
    sound.place(1);
    sound.resample(int64_t(kBlock), std::span(heard).subspan(kBlock));
    double error = 0, size = 0;
    for (size_t i = 0; i < 14000; ++i) {
      error += std::pow(heard[i] - want[i] / 32768.0, 2);
      size += std::pow(want[i] / 32768.0, 2);
    }
    EXPECT_LT(std::sqrt(error / size), 0.02) << rate;
  }
}

}  // namespace
}  // namespace liveavatar
