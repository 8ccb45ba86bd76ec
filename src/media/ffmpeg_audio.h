// An open audio file, decoded by FFmpeg.
#pragma once

#include <memory>

#include "core/status.h"
#include "media/audio.h"
#include "media/file_io.h"

namespace liveavatar {

struct OpenedAudio {
  std::unique_ptr<AudioStream> stream;  // owns the file, with its own read position
  double seconds = 0;                   // as the file states; 0: not stated
  bool guessed = false;                 // by FFmpeg, from the bit rate
};
// Errors: not audio, no samples in it.
Expected<OpenedAudio> open_audio(const SharedFile& file);

}  // namespace liveavatar
