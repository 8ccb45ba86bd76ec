#include "media/image.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "media/ffmpeg.h"

namespace liveavatar {
namespace {

constexpr int64_t kLargestSide = 20000;

// EXIF orientation 1..8 of a decoded JPEG; anything else counts as upright.
int orientation_of(const AVFrame& frame) {
  const AVDictionaryEntry* entry = av_dict_get(frame.metadata, "Orientation", nullptr, 0);
  int value = entry ? std::atoi(entry->value) : 1;
  return value >= 1 && value <= 8 ? value : 1;
}

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

// As PIL's convert("RGB"): alpha dropped, grey repeated, palette looked up; full-range YUV at full accuracy.
Expected<Image> to_rgb(const std::string& path, const AVFrame& frame) {
  Image image;
  image.height = frame.height;
  image.width = frame.width;
  if (take_high_bytes(frame, image)) return image;
  auto format = static_cast<AVPixelFormat>(frame.format);
  int flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP;
  Owned<SwsContext> scaler(sws_getContext(frame.width, frame.height, format, frame.width, frame.height,
                                          AV_PIX_FMT_RGB24, flags, nullptr, nullptr, nullptr));
  if (!scaler) return unsupported(path + ": a pixel format that cannot be converted");
  bool full = frame.color_range == AVCOL_RANGE_JPEG || format == AV_PIX_FMT_YUVJ420P || format == AV_PIX_FMT_YUVJ422P ||
              format == AV_PIX_FMT_YUVJ444P;
  const int* matrix = sws_getCoefficients(SWS_CS_ITU601);
  sws_setColorspaceDetails(scaler.get(), matrix, full, matrix, 1, 0, 1 << 16, 1 << 16);
  // swscale may write a vector beyond a row: rows are padded, then packed.
  int stride = (frame.width * 3 + 63) / 64 * 64;
  std::vector<uint8_t> padded(static_cast<size_t>(stride) * static_cast<size_t>(frame.height) + 64);
  uint8_t* target[4] = {padded.data()};
  int strides[4] = {stride};
  sws_scale(scaler.get(), frame.data, frame.linesize, 0, frame.height, target, strides);
  image.rgb.resize(static_cast<size_t>(image.height * image.width * 3));
  for (int64_t y = 0; y < image.height; ++y) {
    std::memcpy(image.rgb.data() + y * image.width * 3, padded.data() + y * stride,
                static_cast<size_t>(image.width) * 3);
  }
  return image;
}

// EXIF 2..8: mirrored and turned; see the TIFF 6.0 tag 274.
Image turned(const Image& image, int orientation) {
  if (orientation == 1) return image;
  bool swap = orientation >= 5;
  Image out;
  out.height = swap ? image.width : image.height;
  out.width = swap ? image.height : image.width;
  out.rgb.resize(image.rgb.size());
  for (int64_t y = 0; y < out.height; ++y) {
    for (int64_t x = 0; x < out.width; ++x) {
      int64_t sy = swap ? x : y, sx = swap ? y : x;
      if (orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8) {
        if (swap)
          sx = image.width - 1 - sx;
        else
          sy = image.height - 1 - sy;
      }
      if (orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7) {
        if (swap)
          sy = image.height - 1 - sy;
        else
          sx = image.width - 1 - sx;
      }
      std::memcpy(&out.rgb[size_t((y * out.width + x) * 3)], &image.rgb[size_t((sy * image.width + sx) * 3)], 3);
    }
  }
  return out;
}

}  // namespace

Expected<Image> read_image(const std::string& path, bool upright) {
  LA_ASSIGN_OR_RETURN(Input input, Input::open(path, AVMEDIA_TYPE_VIDEO, "a picture"));
  if (input.decoder->width > kLargestSide || input.decoder->height > kLargestSide) {
    return corrupt(path + ": the picture is " + std::to_string(input.decoder->width) + "x" +
                   std::to_string(input.decoder->height) + "; at most 20000 a side are taken");
  }
  if (!input.next() || input.frame->width < 1 || input.frame->height < 1) {
    return corrupt(path + ": the picture cannot be decoded; it is damaged or cut off");
  }
  int orientation = upright ? orientation_of(*input.frame) : 1;
  LA_ASSIGN_OR_RETURN(Image image, to_rgb(path, *input.frame));
  return turned(image, orientation);
}

Expected<Sides> parse_sides(const std::string& size) {
  auto wrong = [&size] {
    return invalid_argument("--size \"" + size + "\": write it as width*height, for example \"688*368\"");
  };
  size_t cross = size.find_first_of("*xX");
  if (cross == std::string::npos) return wrong();
  int64_t sides[2] = {0, 0};
  const char* begins[2] = {size.data(), size.data() + cross + 1};
  const char* ends[2] = {size.data() + cross, size.data() + size.size()};
  for (int i = 0; i < 2; ++i) {
    auto [end, error] = std::from_chars(begins[i], ends[i], sides[i]);
    if (error != std::errc() || end != ends[i]) return wrong();
    if (sides[i] < 1 || sides[i] > kLargestSide)
      return invalid_argument("--size \"" + size + "\": each side must be from 1 to 20000");
  }
  if (sides[0] * sides[1] < 64 * 64)
    return invalid_argument("--size \"" + size + "\": the area must hold at least 64*64 pixels");
  if (sides[0] * sides[1] > (int64_t{1} << 26))
    return invalid_argument("--size \"" + size + "\": that is more than 67 million pixels");
  return Sides{sides[0], sides[1]};
}

Expected<int64_t> parse_size(const std::string& size) {
  LA_ASSIGN_OR_RETURN(Sides sides, parse_sides(size));
  return sides.area();
}

Expected<WorkingSize> working_size(int64_t image_height, int64_t image_width, int64_t area) {
  constexpr double kDivisor = 64;
  double h = double(image_height), w = double(image_width), pixels = h * w;
  double most = 1, least = 0.1;
  if (pixels > double(area)) {
    most = std::sqrt(double(area) / pixels);
    double a = pixels, b = (kDivisor - 1) * (h + w), c = (kDivisor - 1) * (kDivisor - 1) - double(area);
    least = (-b + std::sqrt(b * b - 2 * a * c)) / (2 * a);
  }
  for (int i = 0; i < 100; ++i) {
    double scale = most - (most - least) / 100 * i;
    auto padded = [scale](double side) {
      int64_t whole = static_cast<int64_t>(side * scale);
      return whole + (64 - whole % 64) % 64;
    };
    WorkingSize size{padded(h), padded(w)};
    if (size.height * size.width > area) continue;
    if (size.height > 0 && size.width > 0) return size;
    break;
  }
  return corrupt("a picture of " + std::to_string(image_width) + "x" + std::to_string(image_height) +
                 " cannot be fitted into " + std::to_string(area) +
                 " pixels with sides of 64 or more; crop it to a portrait, or raise --size");
}

void image_to_pixels(const Image& image, float* pixels) {
  int64_t plane = image.height * image.width;
  for (int64_t i = 0; i < plane * 3; ++i)
    pixels[i % 3 * plane + i / 3] = static_cast<float>(image.rgb[size_t(i)]) / 255.0f * 2.0f - 1.0f;
}

Status write_png(const std::string& path, const Image& image) {
  const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
  Owned<AVCodecContext> encoder(codec ? avcodec_alloc_context3(codec) : nullptr);
  Owned<AVFrame> frame(av_frame_alloc());
  Owned<AVPacket> packet(av_packet_alloc());
  if (!encoder || !frame || !packet) return unsupported("FFmpeg here has no PNG encoder");
  encoder->width = frame->width = static_cast<int>(image.width);
  encoder->height = frame->height = static_cast<int>(image.height);
  encoder->pix_fmt = AV_PIX_FMT_RGB24;
  frame->format = AV_PIX_FMT_RGB24;
  encoder->time_base = {1, 25};
  if (avcodec_open2(encoder.get(), codec, nullptr) < 0 || av_frame_get_buffer(frame.get(), 0) < 0)
    return unsupported("the PNG encoder cannot take this picture");
  for (int64_t y = 0; y < image.height; ++y) {
    std::memcpy(frame->data[0] + y * frame->linesize[0], image.rgb.data() + y * image.width * 3,
                static_cast<size_t>(image.width) * 3);
  }
  if (avcodec_send_frame(encoder.get(), frame.get()) < 0 || avcodec_receive_packet(encoder.get(), packet.get()) < 0) {
    return io_error(path + ": the picture could not be encoded");
  }
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(packet->data), packet->size);
  file.close();
  return file ? Status() : io_error(path + ": cannot be written");
}

}  // namespace liveavatar
