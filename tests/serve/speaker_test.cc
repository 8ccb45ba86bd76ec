// Texts that are spoken in a session, and what of an answer was played.
#include "serve/speaker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>

#include "serve/conversation.h"
#include "serve/speech_requests.h"

namespace liveavatar::serve {
namespace {

constexpr int kRate = 8000;
using namespace std::chrono_literals;

// 100 samples a byte of the text, with its first letter as their value.
class FakeSynthesizer final : public Synthesizer {
 public:
  Status speak(const SpokenText& text, const PcmSink& sink, const std::stop_token& stop) override {
    if (text.text == "fail.") return io_error("answered 500");
    const std::vector<int16_t> sound(100, text.text[0]);
    for (size_t i = 0; i < text.text.size(); ++i)
      if (stop.stop_requested() || !sink(sound, kRate)) return cancelled("stopped");
    return {};
  }
};

// What a session has: a lock, room, and speeches.
struct FakeSession {
  std::mutex mutex;
  std::vector<std::string> speeches{""};
  std::atomic<int64_t> room = 1000000, calls = 0;

  Speaker::Calls sinks() {
    Speaker::Calls made;
    made.push = [this](std::span<const int16_t> samples, const std::stop_token& stop) -> Expected<int64_t> {
      std::lock_guard lock(mutex);
      ++calls;
      if (stop.stop_requested()) return cancelled("interrupted");
      if (std::ssize(samples) > room) return out_of_memory("full");
      room -= std::ssize(samples);
      const auto letter = static_cast<char>(samples[0]);
      if (speeches.back().empty() || speeches.back().back() != letter) speeches.back() += letter;
      return std::ssize(speeches) - 1;
    };
    made.end_speech = [this](const std::stop_token& stop) {
      std::lock_guard lock(mutex);
      if (!stop.stop_requested()) speeches.emplace_back();
    };
    return made;
  }
  // As LiveSocket does, and speech ends.
  void interrupt(Speaker& speaker) {
    std::lock_guard lock(mutex);
    speaker.cancel();
    if (!speeches.back().empty()) speeches.emplace_back();
  }
  std::vector<std::string> spoken() {
    std::lock_guard lock(mutex);
    return speeches;
  }
};

template <typename Condition>
bool wait_for(const Condition& condition) {
  for (int i = 0; i < 4000 && !condition(); ++i) std::this_thread::sleep_for(5ms);
  return condition();
}

Speaker::Text text_of(const std::string& text, bool ends_speech = true) {
  return {{text, {}}, ends_speech, {}, {}, {}};
}

TEST(Speaker, SpeaksTextsInTheirOrderAsSpeechesOrParts) {
  FakeSession session;
  Speaker speaker(std::make_shared<FakeSynthesizer>(), kRate, session.sinks());
  ASSERT_TRUE(speaker.say(text_of("aa. bb.")).ok());
  ASSERT_TRUE(speaker.say(text_of("c.", false)).ok());
  ASSERT_TRUE(speaker.say(text_of("d.", false)).ok());
  ASSERT_TRUE(speaker.say(text_of("")).ok());
  EXPECT_TRUE(wait_for([&] { return !speaker.is_busy(); }));
  EXPECT_EQ(session.spoken(), (std::vector<std::string>{"ab", "cd", ""}));
}

TEST(Speaker, TellsHowMuchWasPushedAndWhatFailed) {
  FakeSession session;
  Speaker speaker(std::make_shared<FakeSynthesizer>(), kRate, session.sinks());
  std::atomic<int64_t> samples = 0;
  std::atomic<bool> failed = false;
  Speaker::Text good = text_of("abc."), bad = text_of("fail.");
  good.on_sound = [&](int64_t speech, int64_t count) {
    EXPECT_EQ(speech, 0);
    samples += count;
  };
  good.on_end = [&](const Status& spoken) { EXPECT_TRUE(spoken.ok()); };
  bad.on_end = [&](const Status& spoken) { failed = spoken.message() == "answered 500"; };
  ASSERT_TRUE(speaker.say(good).ok());
  ASSERT_TRUE(speaker.say(bad).ok());
  EXPECT_TRUE(wait_for([&] { return failed.load(); }));
  EXPECT_EQ(samples, 400);
}

TEST(Speaker, WaitsForRoomAndLosesNothing) {
  FakeSession session;
  session.room = 250;
  Speaker speaker(std::make_shared<FakeSynthesizer>(), kRate, session.sinks());
  std::atomic<int64_t> samples = 0;
  Speaker::Text text = text_of("abcdef.");
  text.on_sound = [&](int64_t, int64_t count) { samples += count; };
  ASSERT_TRUE(speaker.say(text).ok());
  EXPECT_TRUE(wait_for([&] { return session.calls > 4; }));
  EXPECT_EQ(samples, 200);
  session.room = 1000;
  EXPECT_TRUE(wait_for([&] { return samples == 700; }));
}

TEST(Speaker, PushesNothingAfterAnInterruption) {
  FakeSession session;
  Speaker speaker(std::make_shared<FakeSynthesizer>(), kRate, session.sinks());
  for (int round = 0; round < 200; ++round) {
    ASSERT_TRUE(speaker.say(text_of("aaaaaaaaaaaaaaaaaaaaaa. aaaaaaaaaa.")).ok());
    ASSERT_TRUE(speaker.say(text_of("b.")).ok());
    if (round % 3 != 0) std::this_thread::sleep_for(std::chrono::microseconds(round * 7));
    session.interrupt(speaker);
    ASSERT_TRUE(speaker.say(text_of("c.")).ok());
    ASSERT_TRUE(wait_for([&] { return !speaker.is_busy(); }));
    const auto speeches = session.spoken();
    ASSERT_EQ(speeches[speeches.size() - 2], "c") << round;
  }
}

TEST(Speaker, EndsWhileItWaitsForRoom) {
  FakeSession session;
  session.room = 0;
  Speaker speaker(std::make_shared<FakeSynthesizer>(), kRate, session.sinks());
  ASSERT_TRUE(speaker.say(text_of("a.")).ok());
  EXPECT_TRUE(wait_for([&] { return session.calls > 0; }));
  speaker.end();
  EXPECT_EQ(speaker.say(text_of("b.")).code(), ErrorCode::kCancelled);
}

AnswerRecord record_of(bool complete) {
  AnswerRecord record(kRate);
  for (const char* sentence : {"One two three four.", "Five six seven eight."}) {
    const size_t number = record.add(sentence);
    record.pushed(number, 3, 500);
    record.pushed(number, 3, 500);
    if (complete) record.completed(number);
  }
  return record;
}

TEST(AnswerRecord, KeepsTheWordsThatWerePlayed) {
  const AnswerRecord record = record_of(true);
  EXPECT_EQ(record.text(), "One two three four. Five six seven eight.");
  EXPECT_EQ(record.text_until({-1, 0, true}), "");
  EXPECT_EQ(record.text_until({2, 9000, true}), "");
  EXPECT_EQ(record.text_until({3, 0, true}), "");
  EXPECT_EQ(record.text_until({3, 500, true}), "One two");
  EXPECT_EQ(record.text_until({3, 1000, true}), "One two three four.");
  EXPECT_EQ(record.text_until({3, 1600, true}), "One two three four. Five six");
  EXPECT_EQ(record.text_until({3, 2000, true}), record.text());
  EXPECT_EQ(record.text_until({4, 0, true}), record.text());
}

TEST(AnswerRecord, KnowsWhenAllIsPast) {
  const AnswerRecord record = record_of(true);
  EXPECT_FALSE(record.is_past({3, 1999, false}));
  EXPECT_FALSE(record.is_past({3, 2000, false}));
  EXPECT_TRUE(record.is_past({3, 2000, true}));
  EXPECT_TRUE(record.is_past({4, 0, false}));
  EXPECT_FALSE(record.is_past({2, 5000, true}));
}

TEST(AnswerRecord, GuessesTheLengthOfASentenceThatIsNotComplete) {
  AnswerRecord record(kRate);
  record.pushed(record.add("One two three four."), 0, 4000);
  EXPECT_EQ(record.text_until({0, 4000, true}), "One two");  // of 9120
}

TEST(SpeechRequests, AreParsedAndRefused) {
  const auto request = parse_speech_request(R"({"input":"Hi","voice":"en","response_format":"pcm","speed":1})");
  ASSERT_TRUE(request.ok()) << request.status().message();
  EXPECT_EQ(request->text.text, "Hi");
  EXPECT_EQ(request->text.voice, "en");
  EXPECT_FALSE(request->is_wav);
  EXPECT_TRUE(parse_speech_request(R"({"input":"Hi"})")->is_wav);
  for (const char* wrong : {"", "[]", "{}", R"({"input":""})", R"({"input":5})", R"({"input":"a","voice":[]})",
                            R"({"input":"a","response_format":"mp3"})", R"({"input":"a","model":null})"})
    EXPECT_FALSE(parse_speech_request(wrong).ok()) << wrong;
}

}  // namespace
}  // namespace liveavatar::serve
