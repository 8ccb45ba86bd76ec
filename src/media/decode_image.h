// Decodes an image's file to a frame, for portraits and masks.
#pragma once

#include <string>

#include "core/status.h"
#include "media/ffmpeg.h"
#include "media/image_header.h"

namespace liveavatar {

// The image's header; for a format that only FFmpeg knows, a first frame is decoded. Errors: truncated, no image, more
// pixels than can be decoded.
Expected<ImageHeader> checked_header(const SharedFile& file);

// Of the image as it will be read. Error: more pixels than can be decoded, or none.
Status check_size(const std::string& path, const ImageHeader& header);

// The image in `frame`, its sides divided by 2^reduction (JPEG). Not for HEIF and animated WebP. Any error inside
// the image is kCorrupt.
Expected<Input> decode_image(const SharedFile& file, const ImageHeader& header, int reduction);

}  // namespace liveavatar
