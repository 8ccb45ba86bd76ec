#include <gtest/gtest.h>

#include "serve/rtc/media_clock.h"
#include "serve/rtc/peer.h"
#include "serve/whep_session.h"

namespace liveavatar::rtc {
namespace {

constexpr int64_t kMs = 1'000'000;

TEST(MediaClock, StepsByFramesWhateverTheChunksDo) {
  MediaClock clock;
  const int64_t first = clock.time_of(0, 0, 500 * kMs);
  EXPECT_GE(first, 500 * kMs);
  clock.settle();
  EXPECT_EQ(clock.time_of(4, 0, 500 * kMs), first + 160 * kMs);   // early
  EXPECT_EQ(clock.time_of(8, 0, 2000 * kMs), first + 320 * kMs);  // late
  EXPECT_EQ(clock.time_of(12, 0, 1000 * kMs), first + 480 * kMs);
}

TEST(MediaClock, LearnsFromTheSlowestBlockUntilItIsSettled) {
  MediaClock clock;
  const int64_t first = clock.time_of(0, 0, 0);
  EXPECT_EQ(clock.time_of(12, 0, 780 * kMs), first + 780 * kMs);  // 0.3 s late
  EXPECT_EQ(clock.time_of(24, 0, 960 * kMs), first + 1260 * kMs);
}

TEST(MediaClock, StandsStillWithTheSession) {
  MediaClock clock;
  const int64_t first = clock.time_of(0, 0.48, 0);
  clock.settle();
  EXPECT_EQ(clock.time_of(12, 1.44, 0), first + 480 * kMs + 960 * kMs);
}

TEST(IceServers, AreAddressesThatGStreamerTakes) {
  for (const char* good : {"stun:stun.example.org:3478", "turn:me:secret@turn.example.org:3478",
                           "turns:me:secret@turn.example.org:5349?transport=tcp", "turn:me:a@b@host:1"})
    EXPECT_TRUE(check_ice_server(good).ok()) << good;
  for (const char* bad : {"", "stun:", "stun.example.org", "http://x", "turn:turn.example.org:3478", "turn:me:secret@",
                          "stun:a b", "stun://stun.example.org", "stun:me:secret@host:1", "turn:me@host:1"})
    EXPECT_FALSE(check_ice_server(bad).ok()) << bad;
  EXPECT_EQ(check_ice_server("turn:secret").message().find("secret"), std::string::npos);
}

TEST(WhepQuery, IsAStart) {
  const auto start = serve::parse_whep_query("portrait=me&prompt=a%20test&size=64*64&seed=7&sample_shift=2.5");
  ASSERT_TRUE(start.ok()) << start.status().message();
  EXPECT_EQ(start->portrait, "me");
  EXPECT_EQ(start->request.prompt, "a test");
  EXPECT_EQ(start->request.seed, 7u);
  EXPECT_EQ(start->request.sample_shift, 2.5);
  EXPECT_EQ(start->request.sample_rate, kSampleRate);
  EXPECT_TRUE(start->request.microphone);
  for (const char* bad : {"", "portrait=", "portrait=a/b", "portrait=me&seed=x", "portrait=me&seed=1.5",
                          "portrait=me&seed=-1", "portrait=me&fit=wide", "portrait=me&sample_steps=0"})
    EXPECT_FALSE(serve::parse_whep_query(bad).ok()) << bad;
}

}  // namespace
}  // namespace liveavatar::rtc
