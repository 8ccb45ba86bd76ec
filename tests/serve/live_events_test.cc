// Events of a live socket, and the head of its raw messages.
#include "serve/live_events.h"

#include <gtest/gtest.h>

#include "serve/live_output.h"

namespace liveavatar::serve {
namespace {

constexpr int kRate = 16000;

LiveChunk chunk_at(int64_t frame, LivePosition position) {
  LiveChunk chunk;
  chunk.first_frame = frame;
  chunk.frames = 4;
  chunk.sample_rate = kRate;
  chunk.position = position;
  return chunk;
}

nlohmann::json parsed(const std::string& event) { return nlohmann::json::parse(event); }

TEST(Playback, BeginsWithTheChunkThatHasTheFirstSampleAndEndsWithTheLast) {
  PlaybackEvents playback(kRate);
  EXPECT_TRUE(playback.begins(chunk_at(0, {})).empty());
  playback.pushed(4000);
  playback.pushed(2000);
  playback.end_speech();
  EXPECT_TRUE(playback.begins(chunk_at(4, {})).empty());
  const auto begun = playback.begins(chunk_at(8, {0, 2560, false}));
  ASSERT_EQ(begun.size(), 1u);
  EXPECT_EQ(parsed(begun[0]), parsed(R"({"type":"playback_started","speech":0,"time_s":0.32})"));
  EXPECT_TRUE(playback.ends(chunk_at(8, {0, 2560, false})).empty());
  EXPECT_TRUE(playback.begins(chunk_at(12, {0, 5120, false})).empty());
  const auto ended = playback.ends(chunk_at(16, {0, 6000, true}));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(parsed(ended[0]),
            parsed(R"({"type":"playback_finished","speech":0,"position_s":0.375,"interrupted":false,"time_s":0.8})"));
  EXPECT_TRUE(playback.ends(chunk_at(20, {0, 6000, true})).empty());
}

TEST(Playback, DoesNotEndWhileASpeechMayGoOn) {
  PlaybackEvents playback(kRate);
  playback.pushed(640);
  playback.begins(chunk_at(0, {0, 640, false}));
  EXPECT_TRUE(playback.ends(chunk_at(0, {0, 640, false})).empty());
  playback.end_speech();
  EXPECT_EQ(playback.ends(chunk_at(4, {0, 640, true})).size(), 1u);
}

TEST(Playback, TellsOfEachSpeechOfAChunk) {
  PlaybackEvents playback(kRate);
  for (int i = 0; i < 3; ++i) {
    playback.pushed(600);
    playback.end_speech();
  }
  const LiveChunk chunk = chunk_at(0, {2, 600, true});
  EXPECT_EQ(playback.begins(chunk).size(), 3u);
  EXPECT_EQ(playback.ends(chunk).size(), 3u);
}

TEST(Playback, AnInterruptionEndsWhatPlaysWhereItStopsAndDropsTheRest) {
  PlaybackEvents playback(kRate);
  playback.pushed(16000);
  playback.end_speech();
  playback.pushed(16000);  // waits
  playback.begins(chunk_at(0, {0, 2560, false}));
  const auto dropped = playback.interrupted({0, 7680, true});
  ASSERT_EQ(dropped.size(), 1u);
  EXPECT_EQ(parsed(dropped[0]),
            parsed(R"({"type":"playback_finished","speech":1,"position_s":0.0,"interrupted":true})"));
  EXPECT_TRUE(playback.ends(chunk_at(4, {0, 5120, false})).empty());
  const auto ended = playback.ends(chunk_at(8, {0, 7680, true}));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(parsed(ended[0])["position_s"], 0.48);
  EXPECT_EQ(parsed(ended[0])["interrupted"], true);
  playback.pushed(640);  // the third speech: numbers are never used again
  const auto next = playback.begins(chunk_at(12, {2, 640, false}));
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(parsed(next[0])["speech"], 2);
}

TEST(Playback, AnInterruptionOfNothingIsNoEvent) {
  PlaybackEvents playback(kRate);
  EXPECT_TRUE(playback.interrupted({}).empty());
  playback.pushed(640);
  playback.end_speech();
  playback.begins(chunk_at(0, {0, 640, true}));
  playback.ends(chunk_at(0, {0, 640, true}));
  EXPECT_TRUE(playback.interrupted({0, 640, true}).empty());
}

TEST(Playback, TakesSoManySpeechesAndNoMore) {
  PlaybackEvents playback(kRate);
  for (size_t i = 0; i < PlaybackEvents::kMostSpeeches; ++i) {
    EXPECT_FALSE(playback.is_full());
    playback.pushed(1);
    EXPECT_FALSE(playback.is_full());  // the last one may go on
    playback.end_speech();
  }
  EXPECT_TRUE(playback.is_full());
  EXPECT_EQ(playback.interrupted({}).size(), PlaybackEvents::kMostSpeeches);
  EXPECT_FALSE(playback.is_full());
}

TEST(Playback, ASpeechThatPlayedWholeIsNotInterrupted) {
  PlaybackEvents playback(kRate);
  playback.pushed(640);
  playback.end_speech();
  EXPECT_TRUE(playback.interrupted({0, 640, true}).empty());
  playback.begins(chunk_at(0, {0, 640, true}));
  const auto ended = playback.ends(chunk_at(0, {0, 640, true}));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(parsed(ended[0])["interrupted"], false);
}

TEST(LiveEvents, AreRefusedWithTheReason) {
  for (const char* text : {"", "{", "[]", "5", R"({"type":5})", R"({"kind":"ping"})", R"({"type":"sing"})"})
    EXPECT_FALSE(parse_live_event(text).ok()) << text;
  std::string deep(100000, '[');
  EXPECT_FALSE(parse_live_event(deep).ok());
  const std::string commas(10000, ',');  // in a text they are no values
  EXPECT_TRUE(parse_live_event(R"({"type":"ping","id":"\",[)" + commas + "\"}").ok());
  std::string many = R"({"type":"ping","id":[{})";
  for (int i = 0; i < 5000; ++i) many += ",{}";
  const auto flood = parse_live_event(many + "]}");
  ASSERT_FALSE(flood.ok());
  EXPECT_NE(flood.status().message().find("4096 values"), std::string::npos) << flood.status().message();
  EXPECT_EQ(parse_live_event(R"({"type":"interrupt"})")->type, LiveEvent::Type::kInterrupt);
}

TEST(LiveEvents, StartHasItsNumbersCheckedByName) {
  const auto start = parse_live_start(parsed(
      R"({"type":"start","portrait":"me","prompt":"p","size":"64*64","sample_rate":16000,"format":"raw","seed":3})"));
  ASSERT_TRUE(start.ok()) << start.status().message();
  EXPECT_EQ(start->request.sample_rate, 16000);
  EXPECT_EQ(start->request.seed, 3u);
  EXPECT_EQ(start->format, LiveFormat::kRaw);
  EXPECT_FALSE(start->request.microphone);
  EXPECT_TRUE(parse_live_start(parsed(R"({"portrait":"me","microphone":true})"))->request.microphone);
  for (const auto& [body, word] :
       std::vector<std::pair<std::string, std::string>>{{R"({})", "portrait"},
                                                        {R"({"portrait":"me","sample_rate":"high"})", "sample_rate"},
                                                        {R"({"portrait":"me","sample_steps":0})", "sample_steps"},
                                                        {R"({"portrait":"me","format":"webm"})", "format"},
                                                        {R"({"portrait":"me","fit":"round"})", "fit"},
                                                        {R"({"portrait":"me","microphone":1})", "microphone"},
                                                        {R"({"portrait":["me"]})", "portrait"}}) {
    const auto wrong = parse_live_start(parsed(body));
    EXPECT_FALSE(wrong.ok()) << body;
    EXPECT_NE(wrong.status().message().find(word), std::string::npos) << wrong.status().message();
  }
}

TEST(RawMessage, HasTheHeadThatIsDocumented) {
  LiveChunk chunk = chunk_at(0x0102030405, {});
  chunk.width = 64;
  chunk.height = 128;
  chunk.samples = 2560;
  const std::string head = raw_head(chunk);
  ASSERT_EQ(head.size(), kRawHeadBytes);
  EXPECT_EQ(head.substr(0, 4), "LARW");
  auto value = [&](size_t at, size_t bytes) {
    uint64_t sum = 0;
    for (size_t i = bytes; i-- > 0;) sum = sum << 8 | static_cast<unsigned char>(head[at + i]);
    return sum;
  };
  EXPECT_EQ(value(4, 2), 1u);
  EXPECT_EQ(value(6, 2), kRawHeadBytes);
  EXPECT_EQ(value(8, 8), 0x0102030405u);
  EXPECT_EQ(value(16, 4), 4u);
  EXPECT_EQ(value(20, 4), 64u);
  EXPECT_EQ(value(24, 4), 128u);
  EXPECT_EQ(value(28, 4), 25u);
  EXPECT_EQ(value(32, 4), 16000u);
  EXPECT_EQ(value(36, 4), 2560u);
}

}  // namespace
}  // namespace liveavatar::serve
