// An open audio file, decoded by FFmpeg.
#pragma once

#include <memory>

#include "core/status.h"
#include "media/audio.h"
#include "media/file_io.h"

namespace liveavatar {

struct OpenedAudio {
  std::unique_ptr<AudioStream> stream;  // holds the file, at a position of its own
  double seconds = 0;                   // by the file's own word; 0: it does not say
  bool guessed = false;                 // by FFmpeg, from the bit rate
};
// Errors: not audio, no samples in it.
Expected<OpenedAudio> open_audio(const SharedFile& file);

}  // namespace liveavatar
