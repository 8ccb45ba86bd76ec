// What speaks and listens in one live session besides the client's own sound: texts that are said, and a conversation.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/json.h"
#include "serve/conversation.h"
#include "serve/minds.h"
#include "serve/speaker.h"

namespace liveavatar::serve {

constexpr size_t kMostSaidBytes = 16 << 10;  // of one text

// The text of the event `name`, say or ask, which can be spoken.
Expected<std::string> words_of(const nlohmann::json& event, const char* name);

// All calls with the session's lock, but for the end. None waits.
class LiveVoice {
 public:
  // Calls that take the session's lock.
  struct Calls {
    Speaker::Calls sound;
    std::function<void(const std::string& event)> post;
  };
  // converses: minds.can_converse(). minds outlives it.
  LiveVoice(const Minds& minds, int sample_rate, bool converses, Calls calls);
  ~LiveVoice();  // without the lock: ends the threads

  // The events say and ask, with their words_of(): kUnsupported where the server cannot, kInvalidArgument,
  // kOutOfMemory.
  Status say(const nlohmann::json& event, std::string words);
  Status ask(std::string words);

  // What a client's sound is: the portrait's, the visitor's, or nobody's, since a text is being said.
  struct Heard {
    bool is_portraits = false, interrupts = false;
    std::vector<std::string> events;
  };
  Heard hear(std::span<const int16_t> samples);
  Heard end_speech();

  void cancel();
  // What becomes of the answer.
  std::vector<std::string> interrupted(const LivePosition& stops_at);
  std::vector<std::string> played(const LivePosition& position);
  bool is_busy() const;
  bool converses() const { return conversation_ != nullptr; }

 private:
  const Minds& minds_;
  const Calls calls_;
  std::unique_ptr<Speaker> speaker_;  // null: the server has no voice
  std::unique_ptr<Conversation> conversation_;
  bool was_refused_ = false;  // sound, since the last text began
};

}  // namespace liveavatar::serve
