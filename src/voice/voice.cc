#include "voice/voice.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "core/utf8.h"
#include "voice/resampler.h"
#include "voice/sentence_cutter.h"

namespace liveavatar {
namespace {

Status speak_sentence(Synthesizer& voice, const SpokenText& sentence, int rate_hz, const PcmSink& sink,
                      const std::stop_token& stop) {
  std::optional<Resampler> resampler;
  Status resampled;
  const PcmSink convert = [&](std::span<const int16_t> samples, int from_hz) {
    if (!resampler) resampler.emplace(from_hz, rate_hz);
    const std::span<const int16_t> made = resampler->push(samples);
    return made.empty() || sink(made, rate_hz);
  };
  LA_RETURN_IF_ERROR(voice.speak(sentence, convert, stop));
  if (!resampler) return {};
  const std::span<const int16_t> rest = resampler->finish();
  if (rest.empty() || sink(rest, rate_hz)) return {};
  return cancelled("nobody takes the sound any more");
}

}  // namespace

Status speak_all(Synthesizer& voice, const SpokenText& text, int rate_hz, const PcmSink& sink,
                 const std::stop_token& stop) {
  SentenceCutter cutter;
  std::vector<std::string> sentences = cutter.push(text.text);
  if (std::string rest = cutter.finish(); !rest.empty()) sentences.push_back(std::move(rest));
  for (const std::string& sentence : sentences) {
    if (stop.stop_requested()) return cancelled("stopped before all was spoken");
    LA_RETURN_IF_ERROR(speak_sentence(voice, {sentence, text.voice}, rate_hz, sink, stop));
  }
  return {};
}

Status check_spoken(const std::string& text, size_t most_bytes) {
  if (text.size() > most_bytes)
    return invalid_argument("the text has " + std::to_string(text.size()) + " bytes; " + std::to_string(most_bytes) +
                            " at most are spoken at once");
  if (text.find('\0') != std::string::npos) return invalid_argument("the text has a NUL; send plain text");
  if (first_not_utf8(text) != std::string_view::npos) return invalid_argument("the text is not UTF-8");
  if (!is_speakable(text)) return invalid_argument("the text has nothing to speak");
  return {};
}

}  // namespace liveavatar
