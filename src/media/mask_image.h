// Masks of persons in an image.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "media/image.h"

namespace liveavatar {

struct MaskImage {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> set;  // [height, width], 0 or 1
};

// A pixel is set where it is not 0: any grey value of 1 to 16 bits, any palette index but 0, any colour but black;
// transparent pixels are not. Of images that were compressed with losses (YUV): where it is brighter than half.
// Errors as those of read_image; kInvalidArgument for one of more than most_pixels, before it is decoded.
Expected<MaskImage> read_mask(const std::string& path, int64_t most_pixels = kWholeImage);

// The EXIF orientation that makes `upright` of `stored`, two readings of one image; 1: none does, or it is the same.
int orientation_between(const Image& stored, const Image& upright);
// Rotated as read_image rotates an image of this orientation.
MaskImage turned(const MaskImage& mask, int orientation);

// From the file's header.
struct MaskSize {
  int64_t height = 0, width = 0;
};
Expected<MaskSize> mask_size(const std::string& path);

// While one is read: the decoder's frame, 16 bits of four channels at most, and the mask.
constexpr size_t mask_bytes(int64_t pixels) { return static_cast<size_t>(pixels) * 9; }

}  // namespace liveavatar
