// Image input: decode with FFmpeg, turn upright, resize and crop by the original's rules.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "liveavatar/liveavatar.h"

namespace liveavatar {

struct Image {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> rgb;  // [height, width, 3]
  int orientation = 1;       // EXIF's, already applied; 0: libheif rotated it by an unknown orientation
};

constexpr int64_t kWholeImage = int64_t{1} << 60;

// An image's header, before a pixel is decoded.
struct ImageInfo {
  int64_t height = 0, width = 0;  // of the whole image, as ImageFile::read() returns it
  int reduction = 0;              // it is decoded at sides / 2^reduction
  size_t decode_bytes = 0;        // while ImageFile::read() runs, its result included
  size_t image_bytes = 0;         // of its result
  bool turned_unseen = false;     // Image::orientation will be 0
};
// ImageFile::probe() and read() of a file that is opened for this call only (media/image_file.h).
Expected<ImageInfo> probe_image(const std::string& path, bool upright, int64_t area);
Expected<Image> read_image(const std::string& path, bool upright, int64_t area = kWholeImage);

struct WorkingSize {
  int64_t height = 0, width = 0;  // multiples of 64
};
// The original's size rule: the image's aspect, at most `area` pixels, sides rounded up to multiples of 64.
// Error when a side would be zero (a strip) or the area too small.
Expected<WorkingSize> working_size(int64_t image_height, int64_t image_width, int64_t area);
struct Sides {
  int64_t width = 0, height = 0;
  int64_t area() const { return width * height; }
};
// "688*368", "688x368".
Expected<Sides> parse_sides(const std::string& size);
Expected<int64_t> parse_size(const std::string& size);  // -> area

// -> rgb [height, width, 3]: antialiased bilinear resize (bit-equal to PIL's) then centre crop. kOriginal: short side
// to min(height, width), black where the image is too short; kCover: scaled until it covers, no bars.
Image fit_image(const Image& image, WorkingSize size, Fit fit);
// Memory of fit_image() without its input, with its result.
size_t fit_bytes(const ImageInfo& picture, WorkingSize size, Fit fit);

// value / 255 * 2 - 1 -> [3, height, width].
void image_to_pixels(const Image& image, float* pixels);

// The file appears when it is complete.
Status write_png(const std::string& path, const Image& image);

}  // namespace liveavatar
