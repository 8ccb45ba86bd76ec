#include "serve/minds.h"

#include <utility>

#include "voice/espeak_voice.h"

namespace liveavatar::serve {
namespace {

Status named(const char* field, const Status& status) {
  return {status.code(), "`" + std::string(field) + "`: " + status.message()};
}

Status open_voice(const MindOptions& options, Minds& minds) {
  if (options.no_speech) {
    minds.no_voice = "this server was started without speech";
    return {};
  }
  if (!options.speech.endpoint.url.empty()) {
    auto voice = open_speech_api(options.speech);
    if (!voice.ok()) return named("speech_url", voice.status());
    minds.voice = *std::move(voice);
    return {};
  }
  auto espeak = open_espeak(options.espeak_voice);
  if (espeak.ok()) {
    minds.voice = *std::move(espeak);
  } else if (!options.espeak_voice.empty()) {
    return named("speech_voice", espeak.status());
  } else {
    minds.no_voice = "this server has no speech: " + espeak.status().message();
  }
  return {};
}

// Whether there is one.
Expected<bool> check_endpoint(const char* field, const http_client::Endpoint& endpoint) {
  if (endpoint.url.empty()) return false;
  if (const std::string missing = http_client::missing_client(); !missing.empty())
    return named(field, unsupported(missing));
  if (const Status status = http_client::check_url(endpoint.url); !status.ok()) return named(field, status);
  return true;
}

}  // namespace

std::string Minds::no_conversation() const {
  if (!voice) return no_voice;
  if (!chat) return "this server has no chat; its operator gives `chat_url`";
  return transcription ? "" : "this server has no transcription; its operator gives `transcription_url`";
}

Expected<Minds> open_minds(const MindOptions& options) {
  Minds minds;
  LA_RETURN_IF_ERROR(open_voice(options, minds));
  LA_ASSIGN_OR_RETURN(const bool chats, check_endpoint("chat_url", options.chat.endpoint));
  if (chats) minds.chat = options.chat;
  LA_ASSIGN_OR_RETURN(const bool listens, check_endpoint("transcription_url", options.transcription.endpoint));
  if (listens) minds.transcription = options.transcription;
  return minds;
}

}  // namespace liveavatar::serve
