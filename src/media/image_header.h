// An image file's header: format, size, orientation. No pixel is decoded.
#pragma once

#include <string>

#include "core/status.h"
#include "media/file_io.h"

namespace liveavatar {

enum class ImageKind { kOther, kJpeg, kPng, kTiff, kWebp, kGif, kBmp, kHeif };
const char* image_kind_name(ImageKind kind);  // "JPEG", ...; kOther: "image"

struct ImageHeader {
  ImageKind kind = ImageKind::kOther;
  int64_t width = 0, height = 0;                  // as stored, before the orientation is applied
  int64_t upright_width = 0, upright_height = 0;  // HEIF: libheif applies the orientation
  int orientation = 1;                            // EXIF 1..8
  bool progressive = false;                       // JPEG: the decoder holds all coefficients
  bool animated = false;                          // WebP
  bool complete = true;                           // false: the file ends before the image does
  double sample_bytes = 4;                        // of a decoded pixel in the decoder's own format, at most
};

// Reads only the parts with this data: a few kilobytes of most files, the segment headers and the EXIF block of a JPEG,
// and the end of any file. kOther: a format that only FFmpeg knows (or a device).
ImageHeader read_image_header(const ReadFile& file);

// Orientation in a TIFF structure (an EXIF block is one); 1 if there is none.
int exif_orientation(const std::string& tiff);

}  // namespace liveavatar
