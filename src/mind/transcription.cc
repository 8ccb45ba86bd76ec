#include "mind/transcription.h"

#include "core/json.h"
#include "core/text.h"
#include "voice/wav_reader.h"

namespace liveavatar {

Expected<std::string> transcribe(const TranscriptionApi& api, std::span<const int16_t> sound, int rate_hz,
                                 const std::stop_token& stop) {
  http_client::Post request;
  request.most_bytes = 1 << 20;
  std::string wav = wav_head(rate_hz, sound.size());
  wav.append(reinterpret_cast<const char*>(sound.data()), sound.size_bytes());  // little endian
  request.parts = {{"file", std::move(wav), "speech.wav", "audio/wav"},
                   {"model", api.model, "", ""},
                   {"response_format", "json", "", ""}};
  if (!api.language.empty()) request.parts.push_back({"language", api.language, "", ""});
  std::string body;
  auto take = [&](std::string_view bytes) -> Status {
    body += bytes;
    return {};
  };
  LA_RETURN_IF_ERROR(http_client::post(api.endpoint, request, take, stop));
  const nlohmann::json json = nlohmann::json::parse(body, nullptr, false);
  if (!json.is_object() || !json.contains("text") || !json["text"].is_string()) return corrupt("gave no text");
  const auto text = json["text"].get<std::string>();
  if (text.size() > kMostHeardBytes) return corrupt("gave more text than can have been said");
  return trimmed(text);
}

}  // namespace liveavatar
