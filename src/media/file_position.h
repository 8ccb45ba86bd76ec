// Where a video file stands between two segments: what it takes to go on with it there.
#pragma once

#include <cstdint>
#include <string>

namespace liveavatar {

// Frames of a segment of a resumable file: it begins with a keyframe and an encoder that knows of no frame before it,
// so that its bits are those of its own frames.
constexpr int64_t kSegmentFrames = 24;

struct FilePosition {
  int64_t frames = 0;       // in the file, a multiple of kSegmentFrames
  int64_t bytes = 0;        // of the file, that have them
  int64_t fragments = 0;    // of an MP4
  std::string head;         // the file's bytes before the first fragment
  std::string encoder;      // of the picture, by FFmpeg's name
  int encoder_threads = 0;  // they decide the bits too
};

}  // namespace liveavatar
