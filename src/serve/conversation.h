// A visitor speaks and the portrait answers: listening, understanding, answering, and stopping when spoken over.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "mind/chat.h"
#include "mind/voice_activity.h"
#include "serve/answer_record.h"
#include "serve/speaker.h"

namespace liveavatar::serve {

// Calls that "do not wait" are made with the session's lock; `post` takes it, and is called from the conversation's
// thread and the speaker's.
class Conversation {
 public:
  struct Setup {
    // As chat() and transcribe() of the servers that are asked.
    std::function<Status(const std::vector<ChatMessage>& messages, const TextSink& sink, const std::stop_token& stop)>
        chat;
    std::function<Expected<std::string>(std::span<const int16_t> sound, int rate_hz, const std::stop_token& stop)>
        transcribe;
    int sample_rate = 24000;
    std::function<void(const std::string& event)> post;
  };
  // speaker outlives it, and is ended before it.
  Conversation(Setup setup, Speaker& speaker);
  ~Conversation();

  // Do not wait. Events are for the caller to send.
  // true: the visitor begins to speak, which interrupts whoever speaks.
  bool hear(std::span<const int16_t> samples, std::vector<std::string>& events);
  void end_utterance(std::vector<std::string>& events);
  // What is typed instead; it ends an utterance, which a microphone that is gone would keep open for ever.
  // kOutOfMemory: too much waits.
  Status ask(std::string text);
  // The answer that is being made or spoken ends; interrupted() says later what was played of it.
  void cancel();
  std::vector<std::string> interrupted(const LivePosition& stops_at);
  std::vector<std::string> played(const LivePosition& position);
  bool is_answering() const;

 private:
  static constexpr size_t kMostInputs = 4;
  struct Input {
    std::vector<int16_t> sound;
    std::string text;  // instead of the sound
  };
  struct Answer {
    int64_t turn = 0;
    std::stop_source stop;
    AnswerRecord record;
    bool all_pushed = false, is_cut = false;
  };
  void take_event(VoiceActivity::Event event, bool& begins, std::vector<std::string>& events);
  void take_event_locked(VoiceActivity::Event event, bool& begins, std::vector<std::string>& events);
  void run();
  bool take_turn();
  void begin_answer();
  void understand(const Input& input);
  Expected<std::string> text_of(const Input& input);
  void answer(const std::shared_ptr<Answer>& answer, const std::vector<ChatMessage>& messages);
  Status speak(const std::shared_ptr<Answer>& answer, const std::string& sentence);
  Status finish(const std::shared_ptr<Answer>& answer);
  void give_up(const std::shared_ptr<Answer>& answer, const std::string& failure);
  std::string close_answer(const std::string& kept, bool interrupted);  // with mutex_

  const Setup setup_;
  Speaker& speaker_;
  VoiceActivity activity_;  // with the session's lock
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Input> inputs_;
  std::vector<std::string> told_;  // events that the thread posts before it takes the next input
  bool visitor_speaks_ = false, wants_answer_ = false, ended_ = false;
  ChatHistory history_;
  std::shared_ptr<Answer> answer_;  // null: none is made or spoken
  int64_t turn_ = 0;
  std::stop_source stop_;  // of all
  std::thread thread_;     // last: it uses all of the above
};

}  // namespace liveavatar::serve
