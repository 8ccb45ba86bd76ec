#include "media/shortfall.h"

#include <cstdio>
#include <cstring>

#include "media/ffmpeg.h"

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

// 0 where FFmpeg only guesses it.
double stated_seconds(const std::string& path) {
  auto input = Input::open(path, AVMEDIA_TYPE_AUDIO, "a sound");
  if (!input.ok()) return 0;
  const AVFormatContext& format = *input->format;
  bool stated = format.duration > 0 && format.duration_estimation_method != AVFMT_DURATION_FROM_BITRATE;
  return stated ? double(format.duration) / AV_TIME_BASE : 0;
}

}  // namespace

std::string shortfall_note(const std::string& path, double read_seconds) {
  auto file = ReadFile::open(path, "a sound");
  if (!file.ok() || file->size() == 0) return "";
  char text[96];
  constexpr int64_t kPaddingBytes = 16;
  int64_t wave_bytes = stated_wave_bytes(*file);
  if (wave_bytes > file->size() + kPaddingBytes) {
    std::snprintf(text, sizeof(text), ": the file was cut off, %.1f s of it are left; copy it again", read_seconds);
    return path + text;
  }
  if (wave_bytes > 0) return "";                        // samples as they are: no decoder can give up on them
  constexpr double kShare = 0.98, kLeastSeconds = 0.3;  // encoders pad, and round
  double stated = stated_seconds(path);
  if (read_seconds >= stated * kShare || read_seconds > stated - kLeastSeconds) return "";
  std::snprintf(text, sizeof(text), ": %.1f of %.1f s could be read, the rest is damaged; copy it again", read_seconds,
                stated);
  return path + text;
}

}  // namespace liveavatar
