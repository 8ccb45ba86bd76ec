#include "voice/speech_api.h"

#include <cstring>
#include <utility>
#include <vector>

#include "core/json.h"
#include "voice/wav_reader.h"

namespace liveavatar {
namespace {

// s16 mono as bytes that are cut anywhere.
class PcmReader {
 public:
  std::span<const int16_t> push(std::string_view bytes) {
    std::string joined = std::exchange(half_, {});
    joined += bytes;
    samples_.resize(joined.size() / 2);
    std::memcpy(samples_.data(), joined.data(), samples_.size() * 2);
    if (joined.size() % 2 != 0) half_ = joined.back();
    return samples_;
  }

 private:
  std::string half_;
  std::vector<int16_t> samples_;
};

class ApiSynthesizer final : public Synthesizer {
 public:
  explicit ApiSynthesizer(SpeechApi api) : api_(std::move(api)) {}
  Status speak(const SpokenText& text, const PcmSink& sink, const std::stop_token& stop) override;

 private:
  const SpeechApi api_;
};

Status ApiSynthesizer::speak(const SpokenText& text, const PcmSink& sink, const std::stop_token& stop) {
  http_client::Post request;
  request.body = json_text(nlohmann::ordered_json{{"model", api_.model},
                                                  {"input", text.text},
                                                  {"voice", text.voice.empty() ? api_.voice : text.voice},
                                                  {"response_format", api_.format}});
  constexpr size_t kMostBytesASecond = 2 * 4 * 48000;  // float stereo
  request.most_bytes = static_cast<size_t>(kMostSentenceSeconds) * kMostBytesASecond;
  WavReader wav;
  PcmReader pcm;
  size_t samples = 0;
  auto give = [&](std::span<const int16_t> sound, int rate_hz) -> Status {
    samples += sound.size();
    if (sound.empty() || sink(sound, rate_hz)) return {};
    return cancelled("nobody takes the sound any more");
  };
  auto take = [&](std::string_view bytes) -> Status {
    if (api_.format == "pcm") return give(pcm.push(bytes), api_.pcm_rate_hz);
    LA_ASSIGN_OR_RETURN(const std::span<const int16_t> sound, wav.push(bytes));
    return give(sound, wav.rate_hz());
  };
  LA_RETURN_IF_ERROR(http_client::post(api_.endpoint, request, take, stop));
  return samples > 0 ? Status() : corrupt("gave no sound");
}

}  // namespace

Expected<std::shared_ptr<Synthesizer>> open_speech_api(const SpeechApi& api) {
  if (const std::string missing = http_client::missing_client(); !missing.empty()) return unsupported(missing);
  LA_RETURN_IF_ERROR(http_client::check_url(api.endpoint.url));
  if (api.format != "wav" && api.format != "pcm") return invalid_argument("the format of speech is wav or pcm");
  return std::shared_ptr<Synthesizer>(std::make_shared<ApiSynthesizer>(api));
}

}  // namespace liveavatar
