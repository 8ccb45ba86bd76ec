// Decoded frames as RGB, and upright.
#pragma once

#include <string>

#include "core/status.h"
#include "media/ffmpeg.h"
#include "media/image.h"

namespace liveavatar {

// Frames of any size and format, as PIL's convert("RGB"): alpha dropped, grey repeated, palette looked up. YUV by the
// frame's own matrix and range, BT.601 where it has none, at full accuracy.
class RgbConverter {
 public:
  // image: of the frame's size where it has none yet; else the frame is scaled to it.
  Status convert(const AVFrame& frame, const std::string& path, Image& image);

 private:
  Status prepare(const AVFrame& frame, const std::string& path, const Image& image);
  Owned<SwsContext> scaler_;
  int format_ = -1, width_ = 0, height_ = 0;  // of the frames that scaler_ takes
};

// One frame by itself.
Expected<Image> frame_to_rgb(const std::string& path, const AVFrame& frame);

// EXIF orientation 1..8 of a stream by its display matrix; `otherwise` where it has none.
int stream_orientation(const AVStream& stream, int otherwise);

// EXIF orientation 1..8 of a decoded frame, by its EXIF block or its display matrix; `otherwise` where it has neither.
int frame_orientation(const AVFrame& frame, const AVStream& stream, int otherwise);

// Mirrored and turned as EXIF 1..8 says (TIFF 6.0, tag 274).
Image turned(Image image, int orientation);

}  // namespace liveavatar
