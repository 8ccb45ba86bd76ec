// What is answered: OpenAI's POST /v1/chat/completions, streamed.
#pragma once

#include <deque>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "http_client/client.h"

namespace liveavatar {

struct ChatApi {
  http_client::Endpoint endpoint;
  std::string model = "gpt-4o-mini", prompt;  // prompt: the system's message; empty: none
};

struct ChatMessage {
  bool is_answer = false;  // else the visitor's
  std::string text;
};

// The last messages, the oldest first: bounded, so that a conversation of an hour costs what one of minutes does.
class ChatHistory {
 public:
  static constexpr size_t kMostMessages = 40, kMostBytes = 24 << 10;
  void add(ChatMessage message);
  const std::deque<ChatMessage>& messages() const { return messages_; }

 private:
  std::deque<ChatMessage> messages_;
};

constexpr size_t kMostAnswerBytes = 8 << 10;  // more is not asked for

// The answer's text as it comes. Waits until it is complete, or soon after a stop: kCancelled. An answer that is not
// streamed counts too. kCorrupt: neither.
using TextSink = std::function<void(std::string_view text)>;
Status chat(const ChatApi& api, const std::vector<ChatMessage>& messages, const TextSink& sink,
            const std::stop_token& stop);

}  // namespace liveavatar
