#include "mind/chat.h"

#include <algorithm>
#include <utility>

#include "core/json.h"
#include "core/utf8.h"
#include "mind/sse_reader.h"

namespace liveavatar {
namespace {

std::string request_body(const ChatApi& api, const std::vector<ChatMessage>& messages) {
  auto list = nlohmann::ordered_json::array();
  if (!api.prompt.empty()) list.push_back({{"role", "system"}, {"content", api.prompt}});
  for (const ChatMessage& message : messages)
    list.push_back({{"role", message.is_answer ? "assistant" : "user"}, {"content", message.text}});
  return json_text(nlohmann::ordered_json{{"model", api.model}, {"stream", true}, {"messages", list}});
}

// The text of `choices[0].delta` or `.message`; empty: it has none.
std::string content_of(const nlohmann::json& json, const char* where) {
  const auto choices = json.find("choices");
  if (choices == json.end() || !choices->is_array() || choices->empty()) return {};
  const nlohmann::json& first = choices->front();
  if (!first.is_object() || !first.contains(where) || !first[where].is_object()) return {};
  const auto content = first[where].find("content");
  return content != first[where].end() && content->is_string() ? content->get<std::string>() : std::string();
}

// Reads either kind of answer.
class AnswerReader {
 public:
  explicit AnswerReader(const TextSink& sink) : sink_(sink) {}

  Status push(std::string_view bytes) {
    if (!is_known_) {
      head_ += bytes;
      const size_t first = head_.find_first_not_of(" \t\r\n");
      if (first == std::string::npos) return {};
      is_known_ = true;
      is_stream_ = head_[first] != '{';
      if (is_stream_) return push_stream(std::exchange(head_, {}));
      return {};
    }
    if (is_stream_) return push_stream(bytes);
    head_ += bytes;
    return {};
  }

  Status finish() {
    if (is_stream_ && was_event_) return {};
    const nlohmann::json json = nlohmann::json::parse(head_, nullptr, false);
    if (is_stream_ || !json.is_object()) return corrupt("gave no chat completion");
    return take(json, "message");
  }

  bool is_full() const { return bytes_ >= kMostAnswerBytes; }

 private:
  Status push_stream(std::string_view bytes) {
    LA_ASSIGN_OR_RETURN(const std::vector<std::string> events, stream_.push(bytes));
    for (const std::string& event : events) {
      if (event == "[DONE]") continue;
      const nlohmann::json json = nlohmann::json::parse(event, nullptr, false);
      if (!json.is_object()) return corrupt("sent an event that is no JSON");
      was_event_ = true;
      LA_RETURN_IF_ERROR(take(json, "delta"));
    }
    return {};
  }

  Status take(const nlohmann::json& json, const char* where) {
    const auto error = json.find("error");
    if (error != json.end() && !error->is_null()) return io_error("reported an error in its answer");
    std::string text = content_of(json, where);
    if (text.empty() || is_full()) return {};
    const size_t whole = whole_characters(text, kMostAnswerBytes - bytes_);
    bytes_ = whole < text.size() ? kMostAnswerBytes : bytes_ + whole;
    text.resize(whole);
    sink_(text);
    return {};
  }

  const TextSink& sink_;
  SseReader stream_;
  std::string head_;
  bool is_known_ = false, is_stream_ = true, was_event_ = false;
  size_t bytes_ = 0;
};

}  // namespace

void ChatHistory::add(ChatMessage message) {
  if (message.text.empty()) return;
  messages_.push_back(std::move(message));
  auto bytes = [&] {
    size_t sum = 0;
    for (const ChatMessage& one : messages_) sum += one.text.size();
    return sum;
  };
  while (messages_.size() > 1 && (messages_.size() > kMostMessages || bytes() > kMostBytes)) messages_.pop_front();
}

Status chat(const ChatApi& api, const std::vector<ChatMessage>& messages, const TextSink& sink,
            const std::stop_token& stop) {
  http_client::Post request;
  request.body = request_body(api, messages);
  request.most_bytes = 4 << 20;
  AnswerReader reader(sink);
  bool has_enough = false;
  auto take = [&](std::string_view bytes) -> Status {
    LA_RETURN_IF_ERROR(reader.push(bytes));
    has_enough = reader.is_full();
    return has_enough ? cancelled("the answer is long enough") : Status();
  };
  const Status status = http_client::post(api.endpoint, request, take, stop);
  if (has_enough) return {};
  LA_RETURN_IF_ERROR(status);
  return reader.finish();
}

}  // namespace liveavatar
