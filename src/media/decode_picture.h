// The one way from a picture's file to a decoded frame, for portraits and masks alike.
#pragma once

#include <string>

#include "core/status.h"
#include "media/ffmpeg.h"
#include "media/picture_header.h"

namespace liveavatar {

// What the file says about its picture; of a kind that only FFmpeg knows, after a first frame was decoded. Errors: cut
// off, no picture, more pixels than can be decoded.
Expected<PictureHeader> checked_header(const SharedFile& file);

// Of the picture as it will be read. Error: more pixels than can be decoded, or none.
Status check_size(const std::string& path, const PictureHeader& header);

// The picture in `frame`, its sides divided by 2^reduction (JPEG). Not for HEIF and animated WebP. Any error inside
// the picture is kCorrupt.
Expected<Input> decode_picture(const SharedFile& file, const PictureHeader& header, int reduction);

}  // namespace liveavatar
