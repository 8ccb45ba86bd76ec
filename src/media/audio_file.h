// An audio file that is opened once for all later calls.
#pragma once

#include <memory>
#include <string>

#include "core/mono_source.h"
#include "core/status.h"
#include "media/ffmpeg_audio.h"

namespace liveavatar {

// Keeps the file open, so replacing or deleting it later has no effect. One thread at a time; its readers are
// independent.
class AudioFile {
 public:
  // Any audio FFmpeg reads; the first samples are decoded. Errors in one line: missing, a folder, a pipe (refused at
  // once without blocking: the file is read more than once), empty, not audio, no samples in it.
  static Expected<std::unique_ptr<AudioFile>> open(const std::string& path);

  const std::string& path() const { return file_->path(); }
  // The length that the file states. Without one, the file is read to its end at the first call; the readers report an
  // error.
  double seconds();
  // One channel at rate_hz, from the start (media/mono_reader.h). The first reader uses the decoder of open(), a later
  // one opens the decoder again, not the file. A reader shares the file with its own read position: it may outlive the
  // AudioFile, and several may read at the same time.
  Expected<std::unique_ptr<MonoSource>> mono(int rate_hz);
  // A note for the user if only `read_seconds` could be read and the file states more: it was truncated, or a part is
  // damaged. Empty: complete, or no length is stated.
  std::string shortfall(double read_seconds) const;

 private:
  AudioFile(SharedFile file, OpenedAudio opened);
  Expected<std::unique_ptr<AudioStream>> stream();  // at its start

  SharedFile file_;
  std::unique_ptr<AudioStream> unread_;  // that open() made; null: a reader has it
  double stated_seconds_ = 0;            // 0: not stated
  bool guessed_ = false;                 // stated_seconds_, from the bit rate
  double seconds_ = 0;                   // 0: not known yet
};

}  // namespace liveavatar
