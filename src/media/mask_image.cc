#include "media/mask_image.h"

#include <cstring>

#include "media/decode_image.h"
#include "media/orientation.h"

namespace liveavatar {
namespace {

// Value of a component of 1 to 16 bits; the layouts that av_pix_fmt_desc describes without bit packing.
int component(const AVFrame& frame, const AVComponentDescriptor& c, bool big_endian, int64_t y, int64_t x) {
  const uint8_t* at = frame.data[c.plane] + y * frame.linesize[c.plane] + x * c.step + c.offset;
  if (c.depth <= 8) return *at;
  return big_endian ? at[0] << 8 | at[1] : at[1] << 8 | at[0];
}

// One bit a pixel, the first in the highest bit.
bool bit(const AVFrame& frame, int64_t y, int64_t x) {
  bool one = (frame.data[0][y * frame.linesize[0] + x / 8] >> (7 - x % 8) & 1) != 0;
  return one != (frame.format == AV_PIX_FMT_MONOWHITE);
}

class PixelTest {
 public:
  // jpeg: its blacks ring, in colour or grey.
  PixelTest(const AVFrame& frame, bool jpeg)
      : frame_(frame), format_(*av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format))) {
    bool colour = format_.nb_components >= 3;
    lossy_ = jpeg || (colour && (format_.flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) == 0);
    alpha_ = (format_.flags & AV_PIX_FMT_FLAG_ALPHA) != 0 && (format_.flags & AV_PIX_FMT_FLAG_PAL) == 0;
    counted_ = lossy_ || (format_.flags & AV_PIX_FMT_FLAG_PAL) != 0 ? 1 : format_.nb_components - (alpha_ ? 1 : 0);
  }

  bool set(int64_t y, int64_t x) const {
    if (format_.flags & AV_PIX_FMT_FLAG_BITSTREAM) return bit(frame_, y, x);
    if (alpha_ && value(format_.nb_components - 1, y, x) == 0) return false;
    if (lossy_) return value(0, y, x) >> (format_.comp[0].depth - 1) != 0;
    for (int c = 0; c < counted_; ++c) {
      if (value(c, y, x) != 0) return true;
    }
    return false;
  }

 private:
  int value(int c, int64_t y, int64_t x) const {
    return component(frame_, format_.comp[c], (format_.flags & AV_PIX_FMT_FLAG_BE) != 0, y, x);
  }
  const AVFrame& frame_;
  const AVPixFmtDescriptor& format_;
  bool lossy_ = false, alpha_ = false;
  int counted_ = 1;  // components
};

bool readable(const AVFrame& frame) {
  const AVPixFmtDescriptor* format = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  if (format == nullptr || (format->flags & (AV_PIX_FMT_FLAG_FLOAT | AV_PIX_FMT_FLAG_HWACCEL))) return false;
  bool bits = (format->flags & AV_PIX_FMT_FLAG_BITSTREAM) != 0;
  return bits ? frame.format == AV_PIX_FMT_MONOBLACK || frame.format == AV_PIX_FMT_MONOWHITE
              : format->comp[0].depth <= 16 && format->comp[0].shift == 0;
}

}  // namespace

Expected<MaskImage> read_mask(const std::string& path, int64_t most_pixels) {
  LA_ASSIGN_OR_RETURN(SharedFile file, ReadFile::open(path, "an image"));
  LA_ASSIGN_OR_RETURN(ImageHeader header, checked_header(file));
  if (header.height * header.width > most_pixels)
    return invalid_argument(path + ": this mask is " + std::to_string(header.width) + "x" +
                            std::to_string(header.height) +
                            ", larger than the largest first mask of all speakers; save all of one size");
  if (header.kind == ImageKind::kHeif || header.animated)
    return unsupported(path + ": a mask of this kind is not taken; save it as a grey PNG");
  LA_ASSIGN_OR_RETURN(Input input, decode_image(file, header, 0));
  const AVFrame& frame = *input.frame;
  if (!readable(frame)) return unsupported(path + ": this mask's pixel format is not taken; save it as a grey PNG");
  MaskImage mask{frame.height, frame.width, {}};
  mask.set.resize(static_cast<size_t>(mask.height * mask.width));
  PixelTest test(frame, header.kind == ImageKind::kJpeg);
  for (int64_t y = 0; y < mask.height; ++y) {
    for (int64_t x = 0; x < mask.width; ++x) mask.set[static_cast<size_t>(y * mask.width + x)] = test.set(y, x);
  }
  return mask;
}

int orientation_between(const Image& stored, const Image& upright) {
  for (int orientation = 2; orientation <= 8; ++orientation) {
    bool swap = swaps_sides(orientation), same = upright.height == (swap ? stored.width : stored.height);
    for (int64_t y = 0; same && y < upright.height; ++y) {
      for (int64_t x = 0; same && x < upright.width; ++x) {
        StoredPlace from(y, x, orientation, stored.height, stored.width);
        same = std::memcmp(&upright.rgb[static_cast<size_t>((y * upright.width + x) * 3)],
                           &stored.rgb[static_cast<size_t>((from.y * stored.width + from.x) * 3)], 3) == 0;
      }
    }
    if (same) return orientation;
  }
  return 1;
}

MaskImage turned(const MaskImage& mask, int orientation) {
  if (orientation == 1) return mask;
  bool swap = swaps_sides(orientation);
  MaskImage out{swap ? mask.width : mask.height, swap ? mask.height : mask.width, {}};
  out.set.resize(mask.set.size());
  turn_pixels<1>(mask.set.data(), mask.height, mask.width, orientation, out.set.data());
  return out;
}

Expected<MaskSize> mask_size(const std::string& path) {
  LA_ASSIGN_OR_RETURN(SharedFile file, ReadFile::open(path, "an image"));
  LA_ASSIGN_OR_RETURN(ImageHeader header, checked_header(file));
  return MaskSize{header.height, header.width};
}

}  // namespace liveavatar
