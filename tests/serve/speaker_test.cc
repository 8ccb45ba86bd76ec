// Texts that are spoken in a session, and what of an answer was played.
#include "serve/speaker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>

#include "serve/answer_record.h"
#include "serve/fake_session.h"
#include "serve/speech_requests.h"

namespace liveavatar::serve {
namespace {

using namespace std::chrono_literals;

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

TEST(Speaker, GoesOnWhateverItsCallsThrow) {
  FakeSession session;
  Speaker::Calls calls = session.sinks();
  std::atomic<int> ends = 0;
  calls.end_speech = [&](const std::stop_token&) {
    ++ends;
    throw std::runtime_error("no end");
  };
  Speaker speaker(std::make_shared<FakeSynthesizer>(), kRate, calls);
  std::atomic<int> right = 0;
  Speaker::Text bad_sound = text_of("a.", false), bad_end = text_of("b.");
  bad_sound.on_sound = [](int64_t, int64_t) { throw std::runtime_error("no sound"); };
  bad_sound.on_end = [&](const Status& spoken) { right += spoken.message() == "failed: no sound" ? 1 : 0; };
  bad_end.on_end = [&](const Status& spoken) {
    right += spoken.message() == "failed: no end" ? 1 : 0;
    throw std::runtime_error("no more");
  };
  ASSERT_TRUE(speaker.say(bad_sound).ok());
  ASSERT_TRUE(speaker.say(bad_end).ok());
  ASSERT_TRUE(speaker.say(text_of("c.")).ok());
  EXPECT_TRUE(wait_for([&] { return ends == 2 && !speaker.is_busy(); }));
  EXPECT_EQ(right, 2);
  EXPECT_EQ(session.spoken(), std::vector<std::string>{"abc"});
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

TEST(AnswerRecord, CountsEachSpeechByItself) {
  AnswerRecord record(kRate);
  const size_t first = record.add("One two three four."), second = record.add("Five six.");
  EXPECT_FALSE(record.has_sound());
  record.pushed(first, 3, 1000);
  record.completed(first);
  record.pushed(second, 4, 500);
  record.completed(second);
  EXPECT_TRUE(record.has_sound());
  EXPECT_EQ(record.text_until({3, 500, false}), "One two");
  EXPECT_EQ(record.text_until({3, 1900, true}), "One two three four.");  // a text that was said stands behind it
  EXPECT_EQ(record.text_until({4, 300, false}), "One two three four. Five");
  EXPECT_FALSE(record.is_past({3, 9000, true}));
  EXPECT_FALSE(record.is_past({4, 499, true}));
  EXPECT_TRUE(record.is_past({4, 500, true}));
}

TEST(SpeechRequests, GoOnWhateverAReplyThrows) {
  SpeechRequests requests(std::make_shared<FakeSynthesizer>());
  std::atomic<int> thrown = 0, status = 0;
  auto open = [&](const char* body, http::Reply reply) {
    http::Request request;
    request.body = body;
    requests.open(request, std::move(reply));
  };
  for (const char* body : {R"({"input":"fail."})", R"({"input":"Hi."})", R"({"input":"fail."})"})
    open(body, [&](const http::Response&) {
      ++thrown;
      throw std::runtime_error("no memory");
    });
  EXPECT_TRUE(wait_for([&] { return thrown == 3; }));
  open(R"({"input":"Hi."})", [&](const http::Response& response) { status = response.status; });
  EXPECT_TRUE(wait_for([&] { return status == 200; }));
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
