#include "media/audio_file.h"

#include <cstdio>
#include <cstring>
#include <vector>

#include "media/mono_reader.h"
#include "media/shortfall.h"

namespace liveavatar {
namespace {

// What the first chunk of a WAV says the file's size is; 0: no WAV, or one that was written as a stream.
int64_t stated_wave_bytes(const ReadFile& file) {
  const std::string head = file.bytes_at(0, 12);
  uint32_t size = 0;
  if (head.size() < 12 || head.compare(0, 4, "RIFF") != 0 || head.compare(8, 4, "WAVE") != 0) return 0;
  std::memcpy(&size, head.data() + 4, sizeof(size));
  constexpr uint32_t kStream = 0x7f000000;  // and above: a writer that could not seek back
  return size < kStream ? int64_t{size} + 8 : 0;
}

// To its end, or to the first error.
double seconds_to_read(AudioStream& stream) {
  constexpr int64_t kFrames = 1 << 14;
  std::vector<float> chunk(static_cast<size_t>(kFrames * stream.channels()));
  int64_t frames = 0;
  while (true) {
    auto got = stream.read(chunk.data(), kFrames);
    if (!got.ok() || *got == 0) return double(frames) / stream.sample_rate_hz();
    frames += *got;
  }
}

}  // namespace

Expected<std::unique_ptr<AudioFile>> AudioFile::open(const std::string& path) {
  LA_ASSIGN_OR_RETURN(SharedFile file, ReadFile::open(path, "audio"));
  LA_ASSIGN_OR_RETURN(OpenedAudio opened, open_audio(file));
  return std::unique_ptr<AudioFile>(new AudioFile(std::move(file), std::move(opened)));
}

AudioFile::AudioFile(SharedFile file, OpenedAudio opened)
    : file_(std::move(file)),
      unread_(std::move(opened.stream)),
      stated_seconds_(opened.seconds),
      guessed_(opened.guessed),
      seconds_(opened.seconds) {}

Expected<std::unique_ptr<AudioStream>> AudioFile::stream() {
  if (unread_) return std::move(unread_);
  LA_ASSIGN_OR_RETURN(OpenedAudio opened, open_audio(file_));
  return std::move(opened.stream);
}

double AudioFile::seconds() {
  if (seconds_ > 0) return seconds_;
  auto reader = open_audio(file_);
  if (reader.ok()) seconds_ = seconds_to_read(*reader->stream);
  return seconds_;
}

Expected<std::unique_ptr<MonoSource>> AudioFile::mono(int rate_hz) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioStream> audio, stream());
  return mono_of(std::move(audio), rate_hz);
}

std::string AudioFile::shortfall(double read_seconds) const {
  char text[96];
  constexpr int64_t kPaddingBytes = 16;
  const int64_t wave_bytes = stated_wave_bytes(*file_);
  if (wave_bytes > file_->size() + kPaddingBytes) {
    std::snprintf(text, sizeof(text), ": the file was cut off, %.1f s of it are left; copy it again", read_seconds);
    return path() + text;
  }
  if (wave_bytes > 0) return "";                        // samples as they are: no decoder can give up on them
  constexpr double kShare = 0.98, kLeastSeconds = 0.3;  // encoders pad, and round
  const double stated = guessed_ ? 0 : stated_seconds_;
  if (read_seconds >= stated * kShare || read_seconds > stated - kLeastSeconds) return "";
  std::snprintf(text, sizeof(text), ": %.1f of %.1f s could be read, the rest is damaged; copy it again", read_seconds,
                stated);
  return path() + text;
}

Expected<std::unique_ptr<AudioStream>> open_audio(const std::string& path) {
  LA_ASSIGN_OR_RETURN(SharedFile file, ReadFile::open(path, "audio"));
  LA_ASSIGN_OR_RETURN(OpenedAudio opened, open_audio(file));
  return std::move(opened.stream);
}

Expected<std::unique_ptr<MonoSource>> open_mono(const std::string& path, int rate_hz) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioFile> file, AudioFile::open(path));
  return file->mono(rate_hz);
}

Expected<double> audio_seconds(const std::string& path) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioFile> file, AudioFile::open(path));
  return file->seconds();
}

std::string shortfall_note(const std::string& path, double read_seconds) {
  auto file = AudioFile::open(path);
  return file.ok() ? (*file)->shortfall(read_seconds) : "";
}

}  // namespace liveavatar
