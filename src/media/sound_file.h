// An audio file that is opened once, whatever is asked about it afterwards.
#pragma once

#include <memory>
#include <string>

#include "core/mono_source.h"
#include "core/status.h"
#include "media/ffmpeg_audio.h"

namespace liveavatar {

// It holds the open file: one that is replaced or deleted afterwards is still the one that was opened. One thread at a
// time; the readers that it makes are on their own.
class SoundFile {
 public:
  // Any audio FFmpeg reads; the first samples are decoded. Errors in one line: missing, a folder, a pipe (refused at
  // once, never waited for: it is read more than once), empty, not audio, no samples in it.
  static Expected<std::unique_ptr<SoundFile>> open(const std::string& path);

  const std::string& path() const { return file_->path(); }
  // How long the audio is by the file's own word. Of a file that does not say: what can be read, which is read once, at
  // the first call; an error on the way is told by the readers.
  double seconds();
  // One channel at rate_hz, from the start (media/mono_reader.h). The first reader goes on with what open() decoded, a
  // later one opens the decoder again, not the file. A reader holds the file by itself and has a position of its own:
  // it may outlive the SoundFile, and another may read beside it.
  Expected<std::unique_ptr<MonoSource>> mono(int rate_hz);
  // For the user, where `read_seconds` of the audio could be read and its file promises more: it was cut off, or the
  // decoder gave up on a damaged part. Empty: all is there, or the file does not say.
  std::string shortfall(double read_seconds) const;

 private:
  SoundFile(SharedFile file, OpenedAudio opened);
  Expected<std::unique_ptr<AudioStream>> stream();  // at its start

  SharedFile file_;
  std::unique_ptr<AudioStream> unread_;  // that open() made; null: a reader has it
  double stated_seconds_ = 0;            // 0: the file does not say
  bool guessed_ = false;                 // stated_seconds_, from the bit rate
  double seconds_ = 0;                   // 0: not known yet
};

}  // namespace liveavatar
