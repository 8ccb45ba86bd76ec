// A visitor and the portrait, without a session and without other servers.
#include "serve/conversation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

#include "serve/fake_session.h"

namespace liveavatar::serve {
namespace {

// Loud enough for speech.
std::vector<int16_t> word(double seconds) {
  std::vector<int16_t> sound(static_cast<size_t>(seconds * kRate));
  for (size_t i = 0; i < sound.size(); ++i) sound[i] = i % 2 == 0 ? 9000 : -9000;
  return sound;
}

// Everything that is around a conversation.
class Talk {
 public:
  std::vector<std::string> events() {
    std::lock_guard lock(mutex_);
    return events_;
  }
  void add(const std::vector<std::string>& events) {
    std::lock_guard lock(mutex_);
    events_.insert(events_.end(), events.begin(), events.end());
  }
  // Whether such an event came, once all that was pushed is played.
  bool comes(const std::string& part) {
    return wait_for([&] {
      add(conversation.played({1000, 0, true}));
      return has(part);
    });
  }
  bool has(const std::string& part) {
    const std::vector<std::string> all = events();
    return std::any_of(all.begin(), all.end(), [&](const std::string& one) { return one.find(part) != one.npos; });
  }

  FakeSession session;
  Speaker speaker{std::make_shared<FakeSynthesizer>(), kRate, session.sinks()};
  std::function<Status(const TextSink& sink)> chat = [](const TextSink& sink) -> Status {
    sink("Well. Yes.");
    return {};
  };
  std::atomic<size_t> heard_samples = 0, messages = 0;

 private:
  Conversation::Setup setup() {
    Conversation::Setup made;
    made.chat = [this](const std::vector<ChatMessage>& all, const TextSink& sink, const std::stop_token&) {
      messages = all.size();
      return chat(sink);
    };
    made.transcribe = [this](std::span<const int16_t> sound, int, const std::stop_token&) -> Expected<std::string> {
      heard_samples = sound.size();
      return std::string("half a word");
    };
    made.sample_rate = kRate;
    made.post = [this](const std::string& event) { add({event}); };
    return made;
  }
  std::mutex mutex_;
  std::vector<std::string> events_;

 public:
  Conversation conversation{setup(), speaker};  // last: its thread uses all of the above
};

TEST(Conversation, AnswersWhatIsWrittenAlsoInTheMiddleOfAnUtterance) {
  Talk talk;
  std::vector<std::string> events;
  EXPECT_TRUE(talk.conversation.hear(word(0.5), events));  // and then no sound comes any more
  ASSERT_TRUE(talk.conversation.ask("and this").ok());
  EXPECT_TRUE(talk.comes(R"("answered","turn":2,"text":"Well. Yes.","interrupted":false)"));
  const std::vector<std::string> all = talk.events();
  ASSERT_GE(all.size(), 3u);
  EXPECT_EQ(all[0], R"({"type":"hearing","speaks":false})");
  EXPECT_EQ(all[1], R"({"type":"heard","turn":1,"text":"half a word"})");
  EXPECT_EQ(all[2], R"({"type":"heard","turn":2,"text":"and this"})");
  EXPECT_NEAR(double(talk.heard_samples), 0.5 * 16000, 400);
  EXPECT_EQ(talk.messages, 2u);
  EXPECT_FALSE(talk.conversation.is_answering());
}

TEST(Conversation, AnAnswerThatThrowsIsToldAndClosed) {
  Talk talk;
  auto well = talk.chat;
  talk.chat = [](const TextSink& sink) -> Status {
    sink("Well. And");
    throw std::runtime_error("no luck");
  };
  ASSERT_TRUE(talk.conversation.ask("one").ok());
  EXPECT_TRUE(talk.comes("the chat failed: no luck"));
  EXPECT_TRUE(talk.comes(R"("answered","turn":1)"));
  talk.chat = well;
  ASSERT_TRUE(talk.conversation.ask("two").ok());
  EXPECT_TRUE(talk.comes(R"("answered","turn":2,"text":"Well. Yes.")"));
}

TEST(Conversation, AnAnswerThatNobodySpeaksIsClosed) {
  Talk talk;
  talk.speaker.end();
  ASSERT_TRUE(talk.conversation.ask("one").ok());
  EXPECT_TRUE(talk.comes(R"("answered","turn":1,"text":"","interrupted":true)"));
  EXPECT_FALSE(talk.has("error"));
}

TEST(Conversation, AVoiceThatFailsEndsTheAnswer) {
  Talk talk;
  talk.chat = [](const TextSink& sink) -> Status {
    sink("fail. Then more. ");
    return {};
  };
  ASSERT_TRUE(talk.conversation.ask("one").ok());
  EXPECT_TRUE(talk.comes(R"("answered","turn":1,"text":"")"));
  EXPECT_TRUE(talk.has("the voice answered 500"));
}

TEST(Conversation, ATextThatIsSaidBetweenTwoSentencesIsNoPartOfTheAnswer) {
  Talk talk;
  std::atomic<bool> is_said = false;
  talk.chat = [&](const TextSink& sink) -> Status {
    sink("aa. b");
    wait_for([&] { return is_said.load(); });
    sink("b. ");
    return {};
  };
  ASSERT_TRUE(talk.conversation.ask("one").ok());
  EXPECT_TRUE(wait_for([&] { return talk.session.spoken().back() == "a"; }));
  ASSERT_TRUE(talk.speaker.say(text_of("x.")).ok());
  is_said = true;
  EXPECT_TRUE(wait_for([&] { return talk.session.spoken() == std::vector<std::string>{"ax", "b", ""}; }));
  EXPECT_TRUE(wait_for([&] { return !talk.speaker.is_busy(); }));
  EXPECT_TRUE(talk.conversation.played({0, 500, true}).empty());
  EXPECT_TRUE(talk.conversation.played({1, 299, true}).empty());
  EXPECT_TRUE(wait_for([&] {
    talk.add(talk.conversation.played({1, 300, true}));
    return talk.has(R"("text":"aa. bb.","interrupted":false)");
  }));
}

TEST(Conversation, AnInterruptionKeepsWhatWasPlayed) {
  Talk talk;
  ASSERT_TRUE(talk.conversation.ask("one").ok());
  EXPECT_TRUE(wait_for([&] { return talk.session.spoken().front() == "WY"; }));
  talk.conversation.cancel();
  const std::vector<std::string> events = talk.conversation.interrupted({0, 500, true});
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0], R"({"type":"answered","turn":1,"text":"Well.","interrupted":true})");
  EXPECT_FALSE(talk.conversation.is_answering());
}

}  // namespace
}  // namespace liveavatar::serve
