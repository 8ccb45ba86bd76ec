// Decoded frames as RGB, and upright.
#pragma once

#include <string>

#include "core/status.h"
#include "media/ffmpeg.h"
#include "media/image.h"

namespace liveavatar {

// As PIL's convert("RGB"): alpha dropped, grey repeated, palette looked up. YUV by the frame's own matrix and range,
// BT.601 where it has none, at full accuracy.
Expected<Image> frame_to_rgb(const std::string& path, const AVFrame& frame);

// EXIF orientation 1..8 of a decoded frame, by its EXIF block or its display matrix; `otherwise` where it has neither.
int frame_orientation(const AVFrame& frame, const AVStream& stream, int otherwise);

// Mirrored and turned as EXIF 1..8 says (TIFF 6.0, tag 274).
Image turned(Image image, int orientation);

}  // namespace liveavatar
