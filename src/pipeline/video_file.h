// The file behind a VideoFile: for callers that hold the output.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/output_files.h"
#include "liveavatar/liveavatar.h"
#include "media/file_position.h"

namespace liveavatar {

class AudioStream;
class StreamOutput;
class VideoWriter;

// A video writer on a thread of its own. The methods are VideoFile's.
class ThreadedFile {
 public:
  ThreadedFile(std::unique_ptr<VideoWriter> writer, const JobInfo& info);
  ~ThreadedFile();

  // Of a resumable file: its position at so many frames, a multiple of kSegmentFrames that append() has had. Waits
  // until they are in it. Any thread; one asks after the other, for ever more frames.
  Expected<FilePosition> position(int64_t frames);
  // While the file waits for room on its disk there is no position: a snapshot that waited for one would keep what room
  // it has. Any thread.
  void set_stalled(bool is_stalled);

  Status append(const VideoChunk& chunk);
  std::string encoder() const { return encoder_name_; }
  Status finish();

 private:
  Status check(const VideoChunk& chunk) const;
  Status add(const VideoChunk& chunk);
  void encode();
  void keep_position();
  void join();

  std::unique_ptr<VideoWriter> writer_;
  bool resumable_;
  std::string encoder_name_;
  int64_t width_, height_;
  size_t frame_bytes_;
  std::vector<uint8_t> ring_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t first_ = 0, waiting_ = 0;      // in the ring
  bool ended_ = false;                  // changed by the caller's thread alone
  bool encoded_all_ = false;            // the thread has ended
  bool is_stalled_ = false;             // waits for room on its disk
  Status status_;                       // of encoding
  std::deque<FilePosition> positions_;  // that may be asked for
  std::thread encoder_;                 // last: it uses all of the above
};

// kUnsupported where a file of this job cannot have the encoder that was asked for: before any work is done.
Status check_video_encoder(const JobInfo& info);
// The sound of a video, from its beginning; null: it has none. original_mix as VideoFile::create.
Expected<std::unique_ptr<AudioStream>> open_voice(const std::string& audio, bool original_mix);
// As VideoFile::create. The output outlives the file.
Expected<std::unique_ptr<ThreadedFile>> create_video(OutputClaim& output, const JobInfo& info,
                                                     const GenerateRequest& request);
// A resumable file.
struct Continuation {
  std::string mark;                    // VideoWriterOptions::mark
  const FilePosition* from = nullptr;  // where it is gone on with; null: it is a new one
};
Expected<std::unique_ptr<ThreadedFile>> create_resumable_video(OutputClaim& output, const JobInfo& info,
                                                               const GenerateRequest& request,
                                                               const Continuation& continuation);
// The same to a server or a pipe.
Expected<std::unique_ptr<ThreadedFile>> create_video(StreamOutput& output, const JobInfo& info,
                                                     const GenerateRequest& request);

}  // namespace liveavatar
