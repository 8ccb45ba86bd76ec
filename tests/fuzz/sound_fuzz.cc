// Voices in any format that FFmpeg reads, through our decoding, mixing and resampling.
#include <vector>

#include "in_memory.h"
#include "media/audio.h"
#include "media/ffmpeg_log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace liveavatar;
  static const bool quiet = (silence_ffmpeg_log(), true);
  static_cast<void>(quiet);
  fuzz::MemoryFile file(data, bytes, "voice.wav");
  static_cast<void>(audio_seconds(file.path()).ok());
  constexpr int64_t kAtOnce = 4096, kMost = 64 * kAtOnce;  // frames: a small file may say that it lasts for years
  std::vector<float> samples(2 * kAtOnce);
  auto audio = open_audio(file.path());
  for (int64_t read = 0; audio.ok() && read < kMost;) {
    auto got = (*audio)->read(samples.data(), kAtOnce);
    if (!got.ok() || *got == 0) break;
    read += *got;
  }
  auto mono = open_mono(file.path(), 16000);
  for (int64_t read = 0; mono.ok() && read < kMost;) {
    auto got = (*mono)->read(samples.data(), kAtOnce);
    if (!got.ok() || *got == 0) break;
    read += *got;
  }
  return 0;
}
