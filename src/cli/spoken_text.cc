#include "cli/spoken_text.h"

#include <filesystem>
#include <fstream>
#include <memory>

#include "cli/stop_signal.h"
#include "voice/espeak_voice.h"
#include "voice/wav_reader.h"

namespace liveavatar::cli {
namespace {

constexpr int kRateHz = 24000;
constexpr size_t kMostTextBytes = 1 << 20;
constexpr const char* kGroup = "What to make";

Expected<std::shared_ptr<Synthesizer>> open_voice(const SpokenTextFlags& f) {
  if (f.endpoint.url.empty()) {
    auto espeak = open_espeak(f.voice);
    if (espeak.ok()) return espeak;
    const bool is_absent = espeak.status().code() == ErrorCode::kUnsupported;
    return Status(espeak.status().code(), is_absent
                                              ? "--tts: " + espeak.status().message() + "; or give --speech_url URL"
                                              : "--voice: " + espeak.status().message());
  }
  SpeechApi api = f.api;
  LA_RETURN_IF_ERROR(resolve_endpoint(f.endpoint, "speech", "/audio/speech", api.endpoint));
  api.endpoint.tells_answer = true;
  if (!f.endpoint.model.empty()) api.model = f.endpoint.model;
  if (!f.voice.empty()) api.voice = f.voice;
  auto voice = open_speech_api(api);
  if (!voice.ok()) return Status(voice.status().code(), "--speech_url: " + voice.status().message());
  return voice;
}

Expected<std::string> text_of(const SpokenTextFlags& f) {
  std::string text = f.text;
  if (!f.file.empty()) {
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(f.file, ignored))
      return not_found("--tts_file " + f.file + ": there is no such file; check the path");
    std::ifstream file(f.file, std::ios::binary);
    text.resize(kMostTextBytes + 1);  // one too many is told below
    file.read(text.data(), std::ssize(text));
    if (file.bad() || !file.is_open()) return io_error("--tts_file " + f.file + ": cannot be read");
    text.resize(static_cast<size_t>(file.gcount()));
  }
  const Status checked = check_spoken(text, kMostTextBytes);
  if (!checked.ok()) return Status(checked.code(), (f.file.empty() ? "--tts: " : "--tts_file: ") + checked.message());
  return text;
}

// where: before what the voice says of an error.
Status write_all(Synthesizer& voice, const SpokenText& text, const std::string& path, const std::string& where) {
  std::ofstream file(path, std::ios::binary);
  uint64_t samples = 0;
  file << wav_head(kRateHz, 0);
  const PcmSink sink = [&](std::span<const int16_t> sound, int) {
    file.write(reinterpret_cast<const char*>(sound.data()), static_cast<std::streamsize>(sound.size_bytes()));
    samples += sound.size();
    return file.good();
  };
  const Status spoken = speak_all(voice, text, kRateHz, sink, StopSignal::token());
  file.seekp(0);
  file << wav_head(kRateHz, samples);
  file.close();
  if (StopSignal::requested()) return cancelled("stopped; no frame was made yet");
  if (!file) return io_error("--tts: " + path + " cannot be written; free space or set TMPDIR");
  if (!spoken.ok()) return Status(spoken.code(), where + spoken.message());
  return samples > 0 ? Status() : invalid_argument("--tts: the voice made no sound of this text");
}

}  // namespace

void add_spoken_text(CLI::App& app, SpokenTextFlags& f) {
  app.add_option("--tts", f.text, "In place of --audio: a text that is spoken")->group(kGroup);
  app.add_option("--tts_file", f.file, "The same, from a file: plain text, UTF-8")->group(kGroup);
  app.add_option("--voice", f.voice, "Who speaks it: of espeak-ng (en, de+f3, ...) or of --speech_url")->group(kGroup);
  add_endpoint(app, f.endpoint, "speech",
               "Speak by this server, which has OpenAI's /v1/audio/speech: its base or the whole URL", kGroup);
  add_speech_format(app, f.api, kGroup);
}

Status check_spoken_text(const CLI::App& app, const SpokenTextFlags& f) {
  const bool has_text = app.count("--tts") > 0, has_file = app.count("--tts_file") > 0;
  if (has_text && has_file) return invalid_argument("--tts and --tts_file: give one of them");
  const std::string flag = has_text ? "--tts" : "--tts_file";
  if (has_text || has_file) {
    if (!is_given(f)) return invalid_argument(flag + " is empty: give a text");
    for (const char* other : {"--audio", "--sample_list"})
      if (app.count(other) > 0) return invalid_argument(flag + " and " + other + ": give one of them");
  }
  const bool has_any = has_text || has_file;
  for (const char* other : {"--speech_model", "--speech_key_file", "--speech_format", "--speech_rate"})
    if (app.count(other) > 0 && f.endpoint.url.empty())
      return invalid_argument(std::string(other) + " is for --speech_url URL; give that too");
  for (const char* other : {"--voice", "--speech_url"})
    if (app.count(other) > 0 && !has_any)
      return invalid_argument(std::string(other) + " is for --tts TEXT; give that too");
  return {};
}

Status SpokenAudio::make(const SpokenTextFlags& f, std::string& audio) {
  if (!is_given(f)) return {};
  LA_ASSIGN_OR_RETURN(const std::string text, text_of(f));
  LA_ASSIGN_OR_RETURN(const std::shared_ptr<Synthesizer> voice, open_voice(f));
  auto folder = TemporaryFolder::create("", "liveavatar-tts", "set TMPDIR to a folder that can be written");
  if (!folder.ok()) return Status(folder.status().code(), "--tts: " + folder.status().message());
  folder_ = *std::move(folder);
  audio = folder_->path() + "/tts.wav";
  const std::string& url = f.endpoint.url;
  const std::string where = url.empty() ? "--tts: " : "--speech_url " + http_client::shown_url(url) + ": ";
  return write_all(*voice, {text, f.voice}, audio, where);
}

}  // namespace liveavatar::cli
