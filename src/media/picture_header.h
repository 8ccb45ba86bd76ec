// What an image file says about itself before a pixel is decoded: its kind, its size, which way is up.
#pragma once

#include <string>

#include "core/status.h"
#include "media/file_io.h"

namespace liveavatar {

enum class PictureKind { kOther, kJpeg, kPng, kTiff, kWebp, kGif, kBmp, kHeif };
const char* picture_kind_name(PictureKind kind);  // "JPEG", ...; kOther: "image"

struct PictureHeader {
  PictureKind kind = PictureKind::kOther;
  int64_t width = 0, height = 0;                  // as stored, before it is turned upright
  int64_t upright_width = 0, upright_height = 0;  // HEIF, which libheif turns itself
  int orientation = 1;                            // EXIF 1..8
  bool progressive = false;                       // JPEG: the decoder holds all coefficients
  bool animated = false;                          // WebP
  bool complete = true;                           // false: the file ends before the image does
  double sample_bytes = 4;                        // of a decoded pixel in the decoder's own format, at most
};

// Reads the parts that say so, wherever in the file they lie: of most files a few kilobytes, of a JPEG its segments'
// heads and the EXIF block, and of any file its end. kOther: a kind that only FFmpeg knows (or a device).
PictureHeader read_picture_header(const ReadFile& file);

// Orientation in a TIFF structure, which an EXIF block is too; 1 where there is none.
int exif_orientation(const std::string& tiff);

}  // namespace liveavatar
