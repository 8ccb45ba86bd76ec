#include "voice/espeak/espeak_engine.h"

#include <espeak-ng/speak_lib.h>

#include <algorithm>
#include <chrono>
#include <cstring>

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

std::string file_of(const espeak_VOICE& voice) {
  const std::string path = voice.identifier;
  return path.substr(path.rfind('/') + 1);
}

// A list of a priority and a text each, as "\5en-gb\0\2en\0\0".
bool speaks(const espeak_VOICE& voice, const std::string& language) {
  for (const char* at = voice.languages; *at != '\0'; at += 2 + std::strlen(at + 1))
    if (language == at + 1) return true;
  return false;
}

// The file of a voice by its own name, as "de", else by a language that it says it has, as "en-gb"; empty: none. The
// library itself would take a variant alone ("f3") and crash, and voices of mbrola, another program.
std::string voice_file(const std::string& name) {
  std::string by_language;
  for (const espeak_VOICE** voice = espeak_ListVoices(nullptr); *voice != nullptr; ++voice) {
    if (std::string_view((*voice)->identifier).starts_with("mb/")) continue;
    if (file_of(**voice) == name || name == (*voice)->name) return file_of(**voice);
    if (by_language.empty() && speaks(**voice, name)) by_language = file_of(**voice);
  }
  return by_language;
}

bool has_variant(const std::string& name) {
  espeak_VOICE wanted{};
  wanted.languages = "variant";
  for (const espeak_VOICE** voice = espeak_ListVoices(&wanted); *voice != nullptr; ++voice)
    if (file_of(**voice) == name) return true;
  return false;
}

// "de" or "de+f3". false: there is none.
bool set_voice(const std::string& name) {
  const size_t plus = std::min(name.find('+'), name.size());
  const std::string file = voice_file(name.substr(0, plus));
  const bool is_known = plus == name.size() || has_variant(name.substr(plus + 1));
  return !file.empty() && is_known && espeak_SetVoiceByName((file + name.substr(plus)).c_str()) == EE_OK;
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
