#include "voice/espeak/espeak_engine.h"

#include <espeak-ng/speak_lib.h>

#include <algorithm>
#include <chrono>

#include "core/text.h"

namespace liveavatar::espeak {
namespace {

// What one call of the library makes.
struct Making {
  std::vector<int16_t>& sound;
  size_t most_samples;
  const std::stop_token& stop;
  bool is_too_long = false, has_no_memory = false;
};
Making* making = nullptr;  // of the call that runs; with the engine's mutex

// 1 ends the call. No exception may pass through the library.
int take(short* samples, int count, espeak_EVENT*) {
  if (making == nullptr || making->stop.stop_requested()) return 1;
  if (samples == nullptr || count <= 0) return 0;
  if (making->is_too_long || making->has_no_memory) return 1;
  making->is_too_long = making->sound.size() + static_cast<size_t>(count) > making->most_samples;
  if (making->is_too_long) return 1;
  try {
    making->sound.insert(making->sound.end(), samples, samples + count);
  } catch (const std::bad_alloc&) {
    making->has_no_memory = true;
  }
  return making->has_no_memory ? 1 : 0;
}

// The library takes a name for part of a path.
bool is_voice_name(const std::string& name) {
  constexpr size_t kMostBytes = 64;
  const bool is_clean = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '+' || c == ' ';
  });
  return is_clean && !name.empty() && name.size() <= kMostBytes;
}

// By its own name, as "de+f3", else by a language that a voice says it has, as "en-gb". false: there is none.
bool set_voice(const std::string& name) {
  if (espeak_SetVoiceByName(name.c_str()) == EE_OK) return true;
  const size_t variant = std::min(name.find('+'), name.size());
  const std::string language = name.substr(0, variant);
  espeak_VOICE wanted{};
  wanted.languages = language.c_str();
  for (const espeak_VOICE** voice = espeak_ListVoices(&wanted); *voice != nullptr; ++voice) {
    const std::string file = (*voice)->identifier;
    if (file.starts_with("mb/")) continue;  // of another program
    const std::string found = file.substr(file.rfind('/') + 1) + name.substr(variant);
    return espeak_SetVoiceByName(found.c_str()) == EE_OK;
  }
  return false;
}

}  // namespace

Expected<std::shared_ptr<Synthesizer>> EspeakEngine::begin() {
  constexpr int kPieceMs = 100;
  const int rate_hz = espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, kPieceMs, nullptr, espeakINITIALIZE_DONT_EXIT);
  if (rate_hz <= 0) return unsupported("espeak-ng does not start: install espeak-ng-data");
  espeak_SetSynthCallback(take);
  return std::shared_ptr<Synthesizer>(new EspeakEngine(rate_hz));
}

Status EspeakEngine::make(const SpokenText& text, std::vector<int16_t>& sound, const std::stop_token& stop) {
  constexpr auto kStep = std::chrono::milliseconds(20);
  std::unique_lock lock(mutex_, std::defer_lock);
  while (!lock.try_lock_for(kStep))
    if (stop.stop_requested()) return cancelled("stopped before the text was spoken");
  if (!set_voice(text.voice))
    return invalid_argument("espeak-ng has no voice \"" + one_line(text.voice) + "\"; `espeak-ng --voices` lists them");
  Making call{sound, static_cast<size_t>(kMostSentenceSeconds * rate_hz_), stop};
  making = &call;
  const espeak_ERROR made = espeak_Synth(text.text.c_str(), text.text.size() + 1, 0, POS_CHARACTER, 0,
                                         espeakCHARS_UTF8 | espeakENDPAUSE, nullptr, nullptr);
  making = nullptr;
  if (stop.stop_requested()) return cancelled("stopped while the text was spoken");
  if (call.has_no_memory) return out_of_memory("failed: the system has no memory for the sound");
  if (call.is_too_long)
    return io_error("made more than " + std::to_string(static_cast<int>(kMostSentenceSeconds)) + " s of one sentence");
  return made == EE_OK ? Status() : io_error("failed (espeak-ng, " + std::to_string(made) + ")");
}

Status EspeakEngine::speak(const SpokenText& text, const PcmSink& sink, const std::stop_token& stop) {
  if (!is_voice_name(text.voice))
    return invalid_argument("a voice of espeak-ng has letters, digits, \"-\", \"_\", \"+\" and spaces in its name");
  std::vector<int16_t> sound;
  LA_RETURN_IF_ERROR(make(text, sound, stop));
  const auto piece = static_cast<size_t>(rate_hz_ / 5);
  for (size_t at = 0; at < sound.size(); at += piece) {
    const size_t count = std::min(piece, sound.size() - at);
    if (stop.stop_requested() || !sink({sound.data() + at, count}, rate_hz_))
      return cancelled("nobody takes the sound any more");
  }
  return {};
}

}  // namespace liveavatar::espeak
