// A video whose frames steer the movement: decoded as it is read, at 25 frames a second.
#pragma once

#include <memory>
#include <string>

#include "core/status.h"
#include "media/image.h"

namespace liveavatar {

enum class FrameRule {
  kResampled,  // frame k is the one that is shown at k / 25 s; turned upright
  kOriginal,   // the Python original's: every max(1, round(fps / 25))-th frame, however long it is shown; not turned
};

// As the file states, upright if the rule rotates it.
struct PoseVideoInfo {
  int64_t height = 0, width = 0;
  double seconds = 0;  // 0: not stated
};

// Owns the open file, and a decoder with its frames (pose_video_bytes()). One thread at a time.
class PoseVideo {
 public:
  virtual ~PoseVideo() = default;
  // Known when it is opened.
  virtual const PoseVideoInfo& info() const = 0;
  // The next frame, valid until the next call; null: the end.
  virtual Expected<const Image*> next() = 0;
  // Index of the last frame in the file.
  virtual int64_t index() const = 0;
};

// Anything FFmpeg reads as a video; a static image is one frame. Errors: missing, a pipe, empty, not a video, absurdly
// large, no frames in it.
Expected<std::unique_ptr<PoseVideo>> open_pose_video(const std::string& path, FrameRule rule);

// Of a decoder of frames of this size, its reference frames and the two images that are held: a bound for H.264.
size_t pose_video_bytes(int64_t height, int64_t width);

}  // namespace liveavatar
