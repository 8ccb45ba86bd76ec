// An image file that is opened once for all later calls.
#pragma once

#include <string>

#include "core/status.h"
#include "media/file_io.h"
#include "media/image.h"
#include "media/image_header.h"

namespace liveavatar {

// Any static image FFmpeg or libheif reads; the first frame of an animation or a video. It keeps the
// file open, so replacing or deleting it later has no effect. Copies share it, on any thread.
class ImageFile {
 public:
  // Reads the header. Errors: missing, a folder, empty, cut off, no image, more pixels than can be decoded; a pipe
  // (`<(command)`, a piped /dev/stdin), is refused at once without blocking: a decoder needs to seek.
  static Expected<ImageFile> open(const std::string& path);

  const std::string& path() const { return file_->path(); }
  // Before a pixel is decoded. area: of the video. A JPEG of more than 8 megapixels is decoded reduced, to no less than
  // twice the video's sides. Error: a HEIF whose crop is empty.
  Expected<ImageInfo> probe(bool upright, int64_t area) const;
  // Alpha is dropped, grey repeated, palette looked up (as PIL's convert("RGB")). upright: apply the orientation 1..8
  // if there is one; other values are ignored. Errors: those of probe(), damaged. Any number of times.
  Expected<Image> read(bool upright, int64_t area = kWholeImage) const;

 private:
  ImageFile(SharedFile file, const ImageHeader& header) : file_(std::move(file)), header_(header) {}
  // Of the image as it will be read.
  Expected<ImageHeader> header_for(bool upright) const;

  SharedFile file_;
  ImageHeader header_;
};

}  // namespace liveavatar
