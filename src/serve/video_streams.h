// Bodies that are made while they are sent: of a job's video and of its events. Their next() throws where a file cannot
// be read to its end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "serve/http/message.h"
#include "serve/video_jobs.h"

namespace liveavatar::serve {

// `count` bytes of a complete file from `first` on. kIo: it cannot be read.
Expected<std::shared_ptr<http::BodyStream>> open_file_stream(std::shared_ptr<WorkFile> file, uint64_t first,
                                                             uint64_t count);
Expected<uint64_t> file_bytes(const std::string& path);

// A video that a job is writing, to its end. The fragments alone: the index that is written last is not for a reader
// that has them already.
Expected<std::shared_ptr<http::BodyStream>> open_growing_stream(const VideoJobs& jobs, const VideoView& view);

// Server-sent events: "video" with the job's JSON whenever that changes, to its end.
std::shared_ptr<http::BodyStream> open_event_stream(const VideoJobs& jobs, const std::string& id);

// "bytes=5-9", "bytes=5-", "bytes=-5" of a file of so many bytes. kAll: no range, or none that is understood.
struct ByteRange {
  enum class Kind { kAll, kPart, kUnsatisfiable };
  Kind kind = Kind::kAll;
  uint64_t first = 0, last = 0;
};
ByteRange parse_range(std::string_view header, uint64_t bytes);

}  // namespace liveavatar::serve
