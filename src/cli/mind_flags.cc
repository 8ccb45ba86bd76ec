#include "cli/mind_flags.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/text.h"

namespace liveavatar::cli {
namespace {

// LIVEAVATAR_SPEECH_KEY of "speech".
std::string variable_of(const std::string& name) {
  std::string variable = "LIVEAVATAR_" + name + "_KEY";
  std::transform(variable.begin(), variable.end(), variable.begin(), [](unsigned char c) { return std::toupper(c); });
  return variable;
}

// A line of a header: what is no printable ASCII cannot be sent.
bool is_key(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return c > ' ' && c < 127; });
}

std::string no_key(const std::string& flag, const std::string& path) {
  return flag + " " + path + ": its first line is no key; write one into it";
}

}  // namespace

Expected<std::string> key_of_file(const std::string& flag, const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    return not_found(flag + " " + path + ": there is no such file; check the path");
  std::ifstream file(path);
  if (!file) return io_error(flag + " " + path + " cannot be read; see who may read it");
  std::string key;
  std::getline(file, key);
  while (!key.empty() && std::isspace(static_cast<unsigned char>(key.back())) != 0) key.pop_back();
  if (key.empty()) return invalid_argument(no_key(flag, path));
  return key;
}

Status resolve_endpoint(const EndpointFlags& flags, const std::string& name, const std::string& tail,
                        http_client::Endpoint& endpoint) {
  const std::string flag = "--" + name + "_key_file";
  if (flags.url.empty()) {
    if (flags.key_file.empty()) return {};
    return invalid_argument(flag + " is for --" + name + "_url; give that too");
  }
  endpoint.url = http_client::full_url(flags.url, tail);
  const Status checked = http_client::check_url(endpoint.url);
  if (!checked.ok()) return invalid_argument("--" + name + "_url: " + checked.message());
  const char* key = std::getenv(variable_of(name).c_str());
  if (!flags.key_file.empty()) {
    LA_ASSIGN_OR_RETURN(endpoint.key, key_of_file(flag, flags.key_file));
    if (!is_key(endpoint.key)) return invalid_argument(no_key(flag, flags.key_file));
  } else if (key != nullptr) {
    endpoint.key = key;
    if (!is_key(endpoint.key)) return invalid_argument(variable_of(name) + " is no key; put one into it, or unset it");
  }
  return {};
}

void add_endpoint(CLI::App& app, EndpointFlags& flags, const std::string& name, const std::string& what,
                  const std::string& group) {
  app.add_option("--" + name + "_url", flags.url, what)->group(group);
  app.add_option("--" + name + "_model", flags.model, "The model that is named there (default: OpenAI's)")
      ->group(group);
  app.add_option("--" + name + "_key_file", flags.key_file,
                 "The key for that server is this file's first line (default: the variable " + variable_of(name) + ")")
      ->group(group);
}

void add_speech_format(CLI::App& app, SpeechApi& api, const std::string& group) {
  app.add_option("--speech_format", api.format, "What is asked for: wav; pcm, s16 mono without a head")
      ->check(CLI::IsMember({"wav", "pcm"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--speech_rate", api.pcm_rate_hz, "Of pcm, in Hz")
      ->check(CLI::Range(4000, 192000))
      ->capture_default_str()
      ->group(group);
}

void add_mind_flags(CLI::App& app, MindFlags& f) {
  constexpr const char* kGroup = "Voice and conversation (docs/voices.md)";
  serve::MindOptions& o = f.options;
  app.add_flag("--no_speech", o.no_speech, "Speak no texts, though espeak-ng is here")->group(kGroup);
  add_endpoint(app, f.speech, "speech",
               "A server with OpenAI's /v1/audio/speech, its base or the whole URL (default: espeak-ng, where it is)",
               kGroup);
  app.add_option("--speech_voice", f.voice, "The voice where a text names none (default: alloy; en with espeak-ng)")
      ->group(kGroup);
  add_speech_format(app, o.speech, kGroup);
  add_endpoint(app, f.chat, "chat", "A server with OpenAI's /v1/chat/completions, which answers visitors", kGroup);
  app.add_option("--chat_prompt", o.chat.prompt,
                 "What the chat is told about its part (default: a person in a video call, short spoken sentences)")
      ->group(kGroup);
  add_endpoint(app, f.transcription, "transcription",
               "A server with OpenAI's /v1/audio/transcriptions, which hears visitors", kGroup);
  app.add_option("--transcription_language", o.transcription.language,
                 "What visitors speak, as \"en\" (default: the model finds out)")
      ->group(kGroup);
  app.add_option("--reply_timeout_s", f.reply_timeout_s, "These servers may be silent so long")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str()
      ->group(kGroup);
}

Status resolve_minds(const MindFlags& f, serve::MindOptions& o) {
  constexpr const char* kPrompt =
      "You are a person in a video call. Answer in short spoken sentences, without lists, markup or emojis.";
  o = f.options;
  if (o.chat.prompt.empty()) o.chat.prompt = kPrompt;
  LA_RETURN_IF_ERROR(resolve_endpoint(f.speech, "speech", "/audio/speech", o.speech.endpoint));
  LA_RETURN_IF_ERROR(resolve_endpoint(f.chat, "chat", "/chat/completions", o.chat.endpoint));
  LA_RETURN_IF_ERROR(
      resolve_endpoint(f.transcription, "transcription", "/audio/transcriptions", o.transcription.endpoint));
  for (http_client::Endpoint* endpoint : {&o.speech.endpoint, &o.chat.endpoint, &o.transcription.endpoint}) {
    endpoint->stall_s = f.reply_timeout_s;
    endpoint->connect_s = std::min(endpoint->connect_s, f.reply_timeout_s);
  }
  if (!f.speech.model.empty()) o.speech.model = f.speech.model;
  if (!f.chat.model.empty()) o.chat.model = f.chat.model;
  if (!f.transcription.model.empty()) o.transcription.model = f.transcription.model;
  if (!f.voice.empty() && !o.speech.endpoint.url.empty()) o.speech.voice = f.voice;
  if (o.speech.endpoint.url.empty()) o.espeak_voice = f.voice;
  return {};
}

}  // namespace liveavatar::cli
