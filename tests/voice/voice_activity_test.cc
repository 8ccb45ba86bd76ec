// Utterances in a stream of sound.
#include "mind/voice_activity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace liveavatar {
namespace {

constexpr int kRate = 16000;
using Sound = std::vector<int16_t>;
using Event = VoiceActivity::Event;

// Noise of that level, of full scale.
Sound noise(double seconds, double level, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<double> value(0, level * 32768);
  Sound sound(static_cast<size_t>(seconds * kRate));
  for (int16_t& sample : sound) sample = static_cast<int16_t>(std::clamp(value(random), -32767.0, 32767.0));
  return sound;
}

Sound joined(std::initializer_list<Sound> parts) {
  Sound all;
  for (const Sound& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

struct Heard {
  std::vector<Event> events;
  std::vector<double> seconds;  // of the utterances
};

Heard hear(const Sound& sound, size_t piece = 320, VoiceActivityLimits limits = {}) {
  VoiceActivity activity(kRate, limits);
  Heard heard;
  for (size_t at = 0; at < sound.size(); at += piece) {
    const size_t count = std::min(piece, sound.size() - at);
    activity.push({sound.data() + at, count}, [&](Event event) {
      heard.events.push_back(event);
      if (event == Event::kEnds) heard.seconds.push_back(double(activity.take().size()) / kRate);
    });
  }
  return heard;
}

const Sound kRoom = noise(2, 0.002), kWord = noise(0.8, 0.1), kSilence(kRate, 0);

TEST(VoiceActivity, FindsAnUtteranceWithItsBeginning) {
  for (const Sound& around : {kRoom, kSilence}) {
    const Heard heard = hear(joined({around, kWord, around}));
    ASSERT_EQ(heard.events, (std::vector<Event>{Event::kBegins, Event::kEnds}));
    EXPECT_GT(heard.seconds[0], 0.8 + 0.7);
    EXPECT_LT(heard.seconds[0], 0.8 + 0.7 + 0.6);
  }
}

TEST(VoiceActivity, IsTheSameForEveryCutOfTheSound) {
  const Sound sound = joined({kRoom, kWord, kRoom, kWord, kRoom});
  const Heard whole = hear(sound);
  EXPECT_EQ(whole.events.size(), 4u);
  for (const size_t piece : {size_t{1}, size_t{333}, sound.size()}) {
    const Heard heard = hear(sound, piece);
    EXPECT_EQ(heard.events, whole.events) << piece;
    EXPECT_EQ(heard.seconds, whole.seconds) << piece;
  }
}

TEST(VoiceActivity, APauseWithinASentenceDoesNotEndIt) {
  const Heard heard = hear(joined({kRoom, kWord, noise(0.5, 0.002), kWord, kRoom}));
  EXPECT_EQ(heard.events, (std::vector<Event>{Event::kBegins, Event::kEnds}));
}

TEST(VoiceActivity, AClickIsNothing) {
  EXPECT_TRUE(hear(joined({kRoom, noise(0.05, 0.3), kRoom})).events.empty());
  EXPECT_EQ(hear(joined({kRoom, noise(0.14, 0.3), kRoom})).events,
            (std::vector<Event>{Event::kBegins, Event::kDropped}));
}

TEST(VoiceActivity, AFanIsNoSpeechButSpeechOverItIs) {
  const Sound fan = noise(6, 0.01);
  EXPECT_LE(hear(joined({kSilence, fan, fan})).events.size(), 2u);  // its beginning may be one
  const Heard heard = hear(joined({fan, noise(1, 0.15), fan}));
  EXPECT_EQ(heard.seconds.size(), 1u);
}

TEST(VoiceActivity, AQuietVoiceIsHeardInAQuietRoom) {
  EXPECT_EQ(hear(joined({noise(2, 0.0005), noise(0.8, 0.006), noise(2, 0.0005)})).seconds.size(), 1u);
}

TEST(VoiceActivity, WhoSpeaksWithoutEndIsCut) {
  const Heard heard = hear(noise(40, 0.1), 320, {.longest_s = 10});
  ASSERT_GE(heard.seconds.size(), 3u);
  for (const double seconds : heard.seconds) EXPECT_LE(seconds, 10.0);
}

TEST(VoiceActivity, AButtonEndsAnUtterance) {
  VoiceActivity activity(kRate);
  const Sound sound = joined({kRoom, kWord});
  int begins = 0;
  EXPECT_EQ(activity.end_now(), Event::kNone);
  activity.push(sound, [&](Event event) { begins += event == Event::kBegins ? 1 : 0; });
  EXPECT_EQ(begins, 1);
  EXPECT_TRUE(activity.is_speech());
  EXPECT_EQ(activity.end_now(), Event::kEnds);
  EXPECT_GE(activity.take().size(), kWord.size());
  EXPECT_TRUE(activity.take().empty());
  EXPECT_EQ(activity.end_now(), Event::kNone);
}

}  // namespace
}  // namespace liveavatar
