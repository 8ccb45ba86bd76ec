#include "media/pixels.h"

#include <cstdlib>
#include <cstring>

#include "media/orientation.h"

namespace liveavatar {
namespace {

// 16 bits a component, packed: the high byte, as PIL takes it (swscale would round). False for other formats.
bool take_high_bytes(const AVFrame& frame, Image& image) {
  const AVPixFmtDescriptor* format = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  if (!format || format->comp[0].depth != 16 || (format->flags & AV_PIX_FMT_FLAG_FLOAT)) return false;
  bool colour = format->nb_components >= 3;
  if (colour && (!(format->flags & AV_PIX_FMT_FLAG_RGB) || (format->flags & AV_PIX_FMT_FLAG_PLANAR))) return false;
  int high = format->flags & AV_PIX_FMT_FLAG_BE ? 0 : 1;
  image.rgb.resize(static_cast<size_t>(image.height * image.width * 3));
  uint8_t* out = image.rgb.data();
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t x = 0; x < image.width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const AVComponentDescriptor& component = format->comp[colour ? c : 0];
        *out++ = frame.data[0][y * frame.linesize[0] + x * component.step + component.offset + high];
      }
    }
  }
  return true;
}

// FFmpeg's older names of formats say the range too.
AVPixelFormat without_range(AVPixelFormat format) {
  switch (format) {
    case AV_PIX_FMT_YUVJ420P:
      return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ411P:
      return AV_PIX_FMT_YUV411P;
    case AV_PIX_FMT_YUVJ422P:
      return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ440P:
      return AV_PIX_FMT_YUV440P;
    case AV_PIX_FMT_YUVJ444P:
      return AV_PIX_FMT_YUV444P;
    default:
      return format;
  }
}

const int* matrix_of(const AVFrame& frame) {
  switch (frame.colorspace) {
    case AVCOL_SPC_BT709:
      return sws_getCoefficients(SWS_CS_ITU709);
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
      return sws_getCoefficients(SWS_CS_BT2020);
    case AVCOL_SPC_FCC:
      return sws_getCoefficients(SWS_CS_FCC);
    case AVCOL_SPC_SMPTE240M:
      return sws_getCoefficients(SWS_CS_SMPTE240M);
    default:
      return sws_getCoefficients(SWS_CS_ITU601);
  }
}

// The orientation that undoes a display matrix: which stored axis runs right, and which down, on the screen.
int orientation_of_matrix(const int32_t* m) {
  bool swap = std::abs(int64_t{m[0]}) + std::abs(int64_t{m[4]}) < std::abs(int64_t{m[1]}) + std::abs(int64_t{m[3]});
  bool x_back = swap ? m[3] < 0 : m[0] < 0;  // the screen's x runs against the stored axis
  bool y_back = swap ? m[1] < 0 : m[4] < 0;
  constexpr int kPlain[2][2] = {{1, 4}, {2, 3}}, kSwapped[2][2] = {{5, 8}, {6, 7}};
  return swap ? kSwapped[x_back][y_back] : kPlain[x_back][y_back];
}

}  // namespace

Status RgbConverter::prepare(const AVFrame& frame, const std::string& path, const Image& image) {
  if (scaler_ && frame.format == format_ && frame.width == width_ && frame.height == height_) return {};
  format_ = frame.format;
  width_ = frame.width;
  height_ = frame.height;
  auto stored = static_cast<AVPixelFormat>(frame.format);
  AVPixelFormat format = without_range(stored);
  int flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP;
  scaler_.reset(sws_getContext(width_, height_, format, static_cast<int>(image.width), static_cast<int>(image.height),
                               AV_PIX_FMT_RGB24, flags, nullptr, nullptr, nullptr));
  if (!scaler_) return unsupported(path + ": a pixel format that cannot be converted; save it with 8 bits a channel");
  bool full = frame.color_range == AVCOL_RANGE_JPEG || format != stored;
  const int* matrix = matrix_of(frame);
  sws_setColorspaceDetails(scaler_.get(), matrix, full, matrix, 1, 0, 1 << 16, 1 << 16);
  return {};
}

Status RgbConverter::convert(const AVFrame& frame, const std::string& path, Image& image) {
  if (image.width == 0) {
    image.height = frame.height;
    image.width = frame.width;
  }
  bool same_size = frame.height == image.height && frame.width == image.width;
  if (same_size && take_high_bytes(frame, image)) return {};
  LA_RETURN_IF_ERROR(prepare(frame, path, image));
  // swscale may write a vector beyond a row: rows are padded, then moved together.
  int stride = static_cast<int>((image.width * 3 + 63) / 64 * 64);
  size_t row = static_cast<size_t>(image.width) * 3;
  image.rgb.resize(static_cast<size_t>(stride) * static_cast<size_t>(image.height) + 64);
  uint8_t* target[4] = {image.rgb.data()};
  int strides[4] = {stride};
  sws_scale(scaler_.get(), frame.data, frame.linesize, 0, frame.height, target, strides);
  for (int64_t y = 1; y < image.height; ++y)
    std::memmove(image.rgb.data() + static_cast<size_t>(y) * row, image.rgb.data() + y * stride, row);
  image.rgb.resize(row * static_cast<size_t>(image.height));
  return {};
}

Expected<Image> frame_to_rgb(const std::string& path, const AVFrame& frame) {
  Image image;
  LA_RETURN_IF_ERROR(RgbConverter().convert(frame, path, image));
  return image;
}

int stream_orientation(const AVStream& stream, int otherwise) {
  const uint8_t* matrix = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, nullptr);
  return matrix ? orientation_of_matrix(reinterpret_cast<const int32_t*>(matrix)) : otherwise;
}

int frame_orientation(const AVFrame& frame, const AVStream& stream, int otherwise) {
  const AVDictionaryEntry* entry = av_dict_get(frame.metadata, "Orientation", nullptr, 0);
  int value = entry ? std::atoi(entry->value) : 0;
  if (value >= 1 && value <= 8) return value;
  const AVFrameSideData* beside = av_frame_get_side_data(&frame, AV_FRAME_DATA_DISPLAYMATRIX);
  if (beside) return orientation_of_matrix(reinterpret_cast<const int32_t*>(beside->data));
  return stream_orientation(stream, otherwise);
}

Image turned(Image image, int orientation) {
  image.orientation = orientation;
  if (orientation == 1) return image;
  bool swap = swaps_sides(orientation);
  Image out{swap ? image.width : image.height, swap ? image.height : image.width, {}, orientation};
  out.rgb.resize(image.rgb.size());
  turn_pixels<3>(image.rgb.data(), image.height, image.width, orientation, out.rgb.data());
  return out;
}

}  // namespace liveavatar
