#include "serve/live_voice.h"

#include <utility>

#include "serve/errors.h"
#include "serve/live_events.h"
#include "serve/small_json.h"

namespace liveavatar::serve {
namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kMostWaiting = 16;  // texts

Conversation::Setup setup_of(const Minds& minds, int sample_rate, std::function<void(const std::string&)> post) {
  Conversation::Setup setup;
  setup.chat = [api = *minds.chat](const std::vector<ChatMessage>& messages, const TextSink& sink,
                                   const std::stop_token& stop) { return chat(api, messages, sink, stop); };
  setup.transcribe = [api = *minds.transcription](std::span<const int16_t> sound, int rate_hz,
                                                  const std::stop_token& stop) {
    return transcribe(api, sound, rate_hz, stop);
  };
  setup.sample_rate = sample_rate;
  setup.post = std::move(post);
  return setup;
}

}  // namespace

Expected<std::string> words_of(const nlohmann::json& event, const char* name) {
  JsonReader reader(event, name);
  std::string text = reader.text("text", "");
  LA_RETURN_IF_ERROR(client_error(reader.status()));
  if (text.empty()) return invalid_argument(std::string(name) + ": text is missing or empty; give words");
  if (const Status status = check_spoken(text, kMostSaidBytes); !status.ok())
    return Status(status.code(), std::string(name) + ": " + status.message());
  return text;
}

LiveVoice::LiveVoice(const Minds& minds, int sample_rate, bool converses, Calls calls)
    : minds_(minds), calls_(std::move(calls)) {
  if (!minds.voice) return;
  speaker_ = std::make_unique<Speaker>(minds.voice, sample_rate, calls_.sound);
  if (converses) conversation_ = std::make_unique<Conversation>(setup_of(minds, sample_rate, calls_.post), *speaker_);
}

LiveVoice::~LiveVoice() {
  cancel();
  if (speaker_) speaker_->end();
  conversation_.reset();
}

Status LiveVoice::say(const nlohmann::json& event, std::string words) {
  if (!speaker_) return unsupported(minds_.no_voice);
  JsonReader reader(event, "say");
  std::string voice = reader.text("voice", "");
  LA_RETURN_IF_ERROR(client_error(reader.status()));
  if (speaker_->waiting() >= kMostWaiting) return out_of_memory("say: too many texts wait; send it later");
  Speaker::Text text{{std::move(words), std::move(voice)}, true, {}, {}, {}};
  Json saying{{"type", "saying"}};
  if (event.contains("id")) saying["id"] = event["id"];
  text.on_sound = [post = calls_.post, saying, is_told = false](int64_t speech, int64_t) mutable {
    if (is_told) return;
    is_told = true;
    saying["speech"] = speech;
    post(json_text(saying));
  };
  text.on_end = [post = calls_.post](const Status& spoken) {
    if (spoken.ok() || spoken.code() == ErrorCode::kCancelled) return;
    const bool is_clients = spoken.code() == ErrorCode::kInvalidArgument;
    post(error_event(is_clients ? 400 : 502, is_clients ? "invalid_argument" : "speech",
                     failure_of("the voice", spoken)));
  };
  was_refused_ = false;
  return speaker_->say(std::move(text));
}

Status LiveVoice::ask(std::string words) {
  if (!conversation_) return unsupported("ask: this session is no conversation; start one with converse");
  return conversation_->ask(std::move(words));
}

LiveVoice::Heard LiveVoice::hear(std::span<const int16_t> samples) {
  Heard heard;
  if (conversation_) {
    heard.interrupts = conversation_->hear(samples, heard.events);
    return heard;
  }
  heard.is_portraits = !speaker_ || !speaker_->is_busy();
  if (heard.is_portraits || was_refused_) return heard;
  was_refused_ = true;
  heard.events.push_back(
      error_event(409, "busy", "a text is being said, so this sound is dropped; interrupt it first"));
  return heard;
}

LiveVoice::Heard LiveVoice::end_speech() {
  Heard heard;
  if (conversation_) {
    conversation_->end_utterance(heard.events);
  } else {
    heard.is_portraits = !speaker_ || !speaker_->is_busy();
  }
  return heard;
}

// The conversation first: it gives the speaker nothing more then.
void LiveVoice::cancel() {
  if (conversation_) conversation_->cancel();
  if (speaker_) speaker_->cancel();
}

std::vector<std::string> LiveVoice::interrupted(const LivePosition& stops_at) {
  return conversation_ ? conversation_->interrupted(stops_at) : std::vector<std::string>();
}

std::vector<std::string> LiveVoice::played(const LivePosition& position) {
  return conversation_ ? conversation_->played(position) : std::vector<std::string>();
}

bool LiveVoice::is_busy() const {
  return (speaker_ && speaker_->is_busy()) || (conversation_ && conversation_->is_answering());
}

}  // namespace liveavatar::serve
