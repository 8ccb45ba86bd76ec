// The one way from a picture's file to a decoded frame, for portraits and masks alike.
#pragma once

#include <string>

#include "core/status.h"
#include "media/ffmpeg.h"
#include "media/picture_header.h"

namespace liveavatar {

// upright: of HEIF, whose size libheif turns itself. Errors: missing, empty, cut off, no picture, more pixels than
// can be decoded.
Expected<PictureHeader> checked_header(const std::string& path, bool upright);

// The picture in `frame`, its sides divided by 2^reduction (JPEG). Not for HEIF and animated WebP. Any error inside
// the picture is kCorrupt.
Expected<Input> decode_picture(const std::string& path, const PictureHeader& header, int reduction);

}  // namespace liveavatar
