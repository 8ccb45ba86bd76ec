#include "media/decode_image.h"

#include "media/heif.h"
#include "media/pixels.h"

namespace liveavatar {
namespace {

// Whether a file is damaged or of a kind that FFmpeg lacks cannot always be told.
Status damaged(const std::string& path, ImageKind kind) {
  if (kind == ImageKind::kOther)
    return corrupt(path + ": this is no image that we can read, or it is damaged or cut off; save it as PNG or JPEG");
  return corrupt(path + ": the " + image_kind_name(kind) +
                 " image cannot be decoded; it is damaged or cut off, or of a rare kind (TIFF in f32, LAB); save it as "
                 "PNG");
}

}  // namespace

// With the margin that FFmpeg adds to each side.
Status check_size(const std::string& path, const ImageHeader& header) {
  if (header.width < 1 || header.height < 1) return damaged(path, header.kind);
  constexpr int64_t kMargin = 128, kMost = kMostPixels;
  bool fits =
      header.width < kMost && header.height < kMost && (header.width + kMargin) * (header.height + kMargin) < kMost;
  if (fits) return {};
  return unsupported(path + ": the image is " + std::to_string(header.width) + "x" + std::to_string(header.height) +
                     "; at most 268 megapixels (16256x16256) can be decoded; save it smaller");
}

Expected<ImageHeader> checked_header(const SharedFile& file) {
  ImageHeader header = read_image_header(*file);
  LA_RETURN_IF_ERROR(file->status());
  if (!header.complete) {
    return corrupt(file->path() + ": the " + image_kind_name(header.kind) +
                   " image is cut off: the file ends before it does; copy it again");
  }
  if (header.kind == ImageKind::kHeif) {
    LA_ASSIGN_OR_RETURN(HeifSize size, read_heif_size(file));
    header.width = size.stored.width;
    header.height = size.stored.height;
    header.upright_width = size.upright.width;
    header.upright_height = size.upright.height;
    header.sample_bytes = size.sample_bytes;
  } else if (header.kind == ImageKind::kOther || header.width == 0) {
    LA_ASSIGN_OR_RETURN(Input input, Input::open_image(file, {}));
    header.kind = ImageKind::kOther;
    header.width = input.decoder->width;
    header.height = input.decoder->height;
    header.sample_bytes = 8;
    input.frame->format = input.decoder->pix_fmt;
    header.orientation = frame_orientation(*input.frame, *input.format->streams[input.stream], 1);
  }
  LA_RETURN_IF_ERROR(check_size(file->path(), header));
  return header;
}

Expected<Input> decode_image(const SharedFile& file, const ImageHeader& header, int reduction) {
  bool probe = header.kind == ImageKind::kOther;
  bool strict = header.kind != ImageKind::kTiff;  // where every tag that FFmpeg does not know would be an error
  LA_ASSIGN_OR_RETURN(Input input, Input::open_image(file, {probe, strict, reduction}));
  bool decoded = input.next() && input.frame->width > 0 && input.frame->height > 0;
  LA_RETURN_IF_ERROR(input.status());
  const AVFrame& frame = *input.frame;
  if (!decoded || input.error < 0 || frame.decode_error_flags != 0 || (frame.flags & AV_FRAME_FLAG_CORRUPT)) {
    return damaged(file->path(), header.kind);
  }
  return input;
}

}  // namespace liveavatar
