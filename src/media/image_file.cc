// From an image file to pixels: its header, the decoder for its kind, upright.
#include "media/image_file.h"

#include <algorithm>

#include "media/decode_image.h"
#include "media/heif.h"
#include "media/pixels.h"
#include "media/webp.h"

namespace liveavatar {
namespace {

constexpr int64_t kReducePixels = 8'000'000;
constexpr int kMostReduction = 3;

int reduction_of(const ImageHeader& header, int64_t area) {
  if (header.kind != ImageKind::kJpeg) return 0;
  int64_t pixels = header.width * header.height;
  int reduction = 0;
  while (reduction < kMostReduction && (pixels >> (2 * reduction)) > kReducePixels &&
         (pixels >> (2 * (reduction + 1))) >= 4 * area)
    ++reduction;
  return reduction;
}

// The file in the reader and the parser, the decoder's image (and all coefficients of a progressive JPEG), RGB and
// turned RGB.
void count_bytes(const ImageHeader& header, int64_t file_bytes, bool upright, ImageInfo& info) {
  double whole = double(header.width) * double(header.height);
  double pixels = double((header.width >> info.reduction) + 1) * double((header.height >> info.reduction) + 1);
  double coefficients = header.progressive ? whole * header.sample_bytes * 2 : 0;
  double decoder = 2 * double(file_bytes) + coefficients + pixels * header.sample_bytes;
  bool turns = upright && header.orientation != 1;
  double rgb = pixels * 3 + double(header.height >> info.reduction) * 64;  // rows are padded
  info.image_bytes = static_cast<size_t>(rgb);
  info.decode_bytes = static_cast<size_t>(std::max(decoder + rgb, turns ? 2 * rgb : 0));
}

ImageInfo info_of(const ImageHeader& header, int64_t file_bytes, bool upright, int64_t area) {
  ImageInfo info;
  bool swap = upright && header.orientation >= 5;
  info.height = swap ? header.width : header.height;
  info.width = swap ? header.height : header.width;
  info.reduction = reduction_of(header, area);
  info.turned_unseen = upright && header.kind == ImageKind::kHeif;
  count_bytes(header, file_bytes, upright, info);
  return info;
}

}  // namespace

Expected<ImageFile> ImageFile::open(const std::string& path) {
  LA_ASSIGN_OR_RETURN(SharedFile file, ReadFile::open(path, "an image"));
  LA_ASSIGN_OR_RETURN(ImageHeader header, checked_header(file));
  return ImageFile(std::move(file), header);
}

Expected<ImageHeader> ImageFile::header_for(bool upright) const {
  ImageHeader header = header_;
  if (upright && header.kind == ImageKind::kHeif) {
    header.width = header.upright_width;
    header.height = header.upright_height;
  }
  LA_RETURN_IF_ERROR(check_size(path(), header));
  return header;
}

Expected<ImageInfo> ImageFile::probe(bool upright, int64_t area) const {
  LA_ASSIGN_OR_RETURN(ImageHeader header, header_for(upright));
  return info_of(header, file_->size(), upright, area);
}

Expected<Image> ImageFile::read(bool upright, int64_t area) const {
  LA_ASSIGN_OR_RETURN(ImageHeader header, header_for(upright));
  if (header.kind == ImageKind::kHeif) return read_heif(file_, upright);
  if (header.animated) {
    LA_ASSIGN_OR_RETURN(Image image, read_animated_webp(*file_));
    return upright ? turned(std::move(image), header.orientation) : std::move(image);
  }
  Image image;
  int orientation = 1;
  {  // the decoder and its memory are freed before the image is rotated (count_bytes)
    LA_ASSIGN_OR_RETURN(Input input, decode_image(file_, header, reduction_of(header, area)));
    orientation = frame_orientation(*input.frame, *input.format->streams[input.stream], header.orientation);
    LA_ASSIGN_OR_RETURN(image, frame_to_rgb(path(), *input.frame));
  }
  return upright ? turned(std::move(image), orientation) : std::move(image);
}

Expected<ImageInfo> probe_image(const std::string& path, bool upright, int64_t area) {
  LA_ASSIGN_OR_RETURN(ImageFile file, ImageFile::open(path));
  return file.probe(upright, area);
}

Expected<Image> read_image(const std::string& path, bool upright, int64_t area) {
  LA_ASSIGN_OR_RETURN(ImageFile file, ImageFile::open(path));
  return file.read(upright, area);
}

}  // namespace liveavatar
