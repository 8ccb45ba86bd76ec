// The file behind a VideoFile: for callers that hold the output.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/output_files.h"
#include "liveavatar/liveavatar.h"

namespace liveavatar {

class StreamOutput;
class VideoWriter;

// A video writer on a thread of its own. The methods are VideoFile's.
class ThreadedFile {
 public:
  ThreadedFile(std::unique_ptr<VideoWriter> writer, const JobInfo& info);
  ~ThreadedFile();

  Status append(const VideoChunk& chunk);
  std::string encoder() const { return encoder_name_; }
  Status finish();

 private:
  Status check(const VideoChunk& chunk) const;
  Status add(const VideoChunk& chunk);
  void encode();
  void join();

  std::unique_ptr<VideoWriter> writer_;
  std::string encoder_name_;
  int64_t width_, height_;
  size_t frame_bytes_;
  std::vector<uint8_t> ring_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t first_ = 0, waiting_ = 0;  // in the ring
  bool ended_ = false;              // changed by the caller's thread alone
  Status status_;                   // of encoding
  std::thread encoder_;             // last: it uses all of the above
};

// kUnsupported where a file of this job cannot have the encoder that was asked for: before any work is done.
Status check_video_encoder(const JobInfo& info);
// As VideoFile::create. The output outlives the file.
Expected<std::unique_ptr<ThreadedFile>> create_video(OutputClaim& output, const JobInfo& info,
                                                     const GenerateRequest& request);
// The same to a server or a pipe.
Expected<std::unique_ptr<ThreadedFile>> create_video(StreamOutput& output, const JobInfo& info,
                                                     const GenerateRequest& request);

}  // namespace liveavatar
