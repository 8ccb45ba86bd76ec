// From a picture file to pixels: its header, the decoder for its kind, upright.
#include <algorithm>
#include <climits>

#include "media/heif.h"
#include "media/image.h"
#include "media/picture_header.h"
#include "media/pixels.h"
#include "media/webp.h"

namespace liveavatar {
namespace {

constexpr int64_t kReducePixels = 8'000'000;
constexpr int kMostReduction = 3;

Expected<PictureHeader> header_of(const std::string& path, bool upright) {
  LA_ASSIGN_OR_RETURN(ReadFile file, ReadFile::open(path, "a picture"));
  PictureHeader header = read_picture_header(file);
  if (!header.complete) {
    return corrupt(path + ": the " + picture_kind_name(header.kind) +
                   " picture is cut off: the file ends before it does; copy it again");
  }
  if (header.kind == PictureKind::kHeif) {
    LA_ASSIGN_OR_RETURN(HeifSize size, read_heif_size(path, upright));
    header.width = size.width;
    header.height = size.height;
    header.sample_bytes = size.sample_bytes;
  } else if (header.kind == PictureKind::kOther || header.width == 0) {
    LA_ASSIGN_OR_RETURN(Input input, Input::open_picture(path, {}));
    header.kind = PictureKind::kOther;
    header.width = input.decoder->width;
    header.height = input.decoder->height;
    header.sample_bytes = 8;
    input.frame->format = input.decoder->pix_fmt;
    header.orientation = frame_orientation(*input.frame, *input.format->streams[input.stream], 1);
  }
  return header;
}

Status damaged(const std::string& path, PictureKind kind) {
  std::string name = kind == PictureKind::kOther ? "" : std::string(picture_kind_name(kind)) + " ";
  return corrupt(path + ": the " + name + "picture cannot be decoded; it is damaged or cut off");
}

// FFmpeg counts the bytes of a picture in an int, with a margin, at 8 a pixel.
Status check_size(const std::string& path, const PictureHeader& header) {
  if (header.width < 1 || header.height < 1) return damaged(path, header.kind);
  constexpr int64_t kMargin = 128, kMost = INT_MAX / 8;
  bool fits =
      header.width < kMost && header.height < kMost && (header.width + kMargin) * (header.height + kMargin) < kMost;
  if (fits) return {};
  return unsupported(path + ": the picture is " + std::to_string(header.width) + "x" + std::to_string(header.height) +
                     "; at most 268 megapixels (16256x16256) can be decoded; save it smaller");
}

int reduction_of(const PictureHeader& header, int64_t area) {
  if (header.kind != PictureKind::kJpeg) return 0;
  int64_t pixels = header.width * header.height;
  int reduction = 0;
  while (reduction < kMostReduction && (pixels >> (2 * reduction)) > kReducePixels &&
         (pixels >> (2 * (reduction + 1))) >= 4 * area)
    ++reduction;
  return reduction;
}

// The file in the reader and the parser, the decoder's picture (and all coefficients of a progressive JPEG), RGB and
// turned RGB.
void count_bytes(const PictureHeader& header, int64_t file_bytes, bool upright, PictureInfo& info) {
  double whole = double(header.width) * double(header.height);
  double pixels = double((header.width >> info.reduction) + 1) * double((header.height >> info.reduction) + 1);
  double coefficients = header.progressive ? whole * header.sample_bytes * 2 : 0;
  double decoder = 2 * double(file_bytes) + coefficients + pixels * header.sample_bytes;
  bool turns = upright && header.orientation != 1;
  double rgb = pixels * 3 + double(header.height >> info.reduction) * 64;  // rows are padded
  info.image_bytes = static_cast<size_t>(rgb);
  info.decode_bytes = static_cast<size_t>(std::max(decoder + rgb, turns ? 2 * rgb : 0));
}

Expected<PictureInfo> info_of(const std::string& path, const PictureHeader& header, bool upright, int64_t area) {
  LA_RETURN_IF_ERROR(check_size(path, header));
  LA_ASSIGN_OR_RETURN(ReadFile file, ReadFile::open(path, "a picture"));
  PictureInfo info;
  bool swap = upright && header.orientation >= 5;
  info.height = swap ? header.width : header.height;
  info.width = swap ? header.height : header.width;
  info.reduction = reduction_of(header, area);
  count_bytes(header, file.size(), upright, info);
  return info;
}

Expected<Image> decode_with_ffmpeg(const std::string& path, const PictureHeader& header, int reduction, bool upright) {
  bool probe = header.kind == PictureKind::kOther;
  bool strict = header.kind != PictureKind::kTiff;  // where every tag that FFmpeg does not know would be an error
  LA_ASSIGN_OR_RETURN(Input input, Input::open_picture(path, {probe, strict, reduction}));
  bool decoded = input.next() && input.frame->width > 0 && input.frame->height > 0;
  const AVFrame& frame = *input.frame;
  if (!decoded || input.error < 0 || frame.decode_error_flags != 0 || (frame.flags & AV_FRAME_FLAG_CORRUPT)) {
    return damaged(path, header.kind);
  }
  int orientation = frame_orientation(frame, *input.format->streams[input.stream], header.orientation);
  LA_ASSIGN_OR_RETURN(Image image, frame_to_rgb(path, frame));
  if (!upright) return image;
  input.frame.reset();
  return turned(std::move(image), orientation);
}

}  // namespace

Expected<PictureInfo> probe_picture(const std::string& path, bool upright, int64_t area) {
  LA_ASSIGN_OR_RETURN(PictureHeader header, header_of(path, upright));
  return info_of(path, header, upright, area);
}

Expected<Image> read_image(const std::string& path, bool upright, int64_t area) {
  LA_ASSIGN_OR_RETURN(PictureHeader header, header_of(path, upright));
  LA_ASSIGN_OR_RETURN(PictureInfo info, info_of(path, header, upright, area));
  if (header.kind == PictureKind::kHeif) return read_heif(path, upright);
  if (!header.animated) return decode_with_ffmpeg(path, header, info.reduction, upright);
  LA_ASSIGN_OR_RETURN(Image image, read_animated_webp(path));
  return upright ? turned(std::move(image), header.orientation) : std::move(image);
}

}  // namespace liveavatar
