#include "media/contact_sheet.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "media/ffmpeg.h"
#include "media/image.h"

namespace liveavatar {
namespace {

constexpr int64_t kGap = 2;

Image frame_to_image(const AVFrame& frame) {
  Image image;
  image.height = frame.height;
  image.width = frame.width;
  int stride = (frame.width * 3 + 63) / 64 * 64;
  std::vector<uint8_t> padded(static_cast<size_t>(stride) * static_cast<size_t>(frame.height) + 64);
  auto format = static_cast<AVPixelFormat>(frame.format);
  Owned<SwsContext> scaler(sws_getContext(frame.width, frame.height, format, frame.width, frame.height,
                                          AV_PIX_FMT_RGB24, SWS_BICUBIC, nullptr, nullptr, nullptr));
  const int* matrix = sws_getCoefficients(SWS_CS_ITU709);
  sws_setColorspaceDetails(scaler.get(), matrix, 0, matrix, 1, 0, 1 << 16, 1 << 16);
  uint8_t* target[4] = {padded.data()};
  int strides[4] = {stride};
  sws_scale(scaler.get(), frame.data, frame.linesize, 0, frame.height, target, strides);
  for (int64_t y = 0; y < image.height; ++y) {
    image.rgb.insert(image.rgb.end(), padded.begin() + y * stride, padded.begin() + y * stride + image.width * 3);
  }
  return image;
}

void paste(const Image& tile, int64_t top, int64_t left, Image& sheet) {
  for (int64_t y = 0; y < tile.height; ++y) {
    std::memcpy(&sheet.rgb[size_t(((top + y) * sheet.width + left) * 3)], &tile.rgb[size_t(y * tile.width * 3)],
                size_t(tile.width) * 3);
  }
}

Expected<int64_t> count_frames(const std::string& video) {
  LA_ASSIGN_OR_RETURN(Input input, Input::open(video, AVMEDIA_TYPE_VIDEO, "a video"));
  int64_t frames = 0;
  while (input.next()) ++frames;
  if (frames == 0) return corrupt(video + ": there is no frame in this video");
  return frames;
}

}  // namespace

Status write_contact_sheet(const std::string& video, const std::string& png, int columns, int rows) {
  LA_ASSIGN_OR_RETURN(int64_t frames, count_frames(video));
  LA_ASSIGN_OR_RETURN(Input input, Input::open(video, AVMEDIA_TYPE_VIDEO, "a video"));
  int64_t tiles = int64_t{columns} * rows, placed = 0;
  Image sheet;
  for (int64_t f = 0; placed < tiles && input.next(); ++f) {
    if (sheet.rgb.empty()) {
      sheet.width = columns * (input.frame->width + kGap) - kGap;
      sheet.height = rows * (input.frame->height + kGap) - kGap;
      sheet.rgb.assign(static_cast<size_t>(sheet.width * sheet.height * 3), 255);
    }
    while (placed < tiles && f == std::min(frames - 1, (placed * frames + frames / 2) / tiles)) {
      Image tile = frame_to_image(*input.frame);
      paste(tile, placed / columns * (tile.height + kGap), placed % columns * (tile.width + kGap), sheet);
      ++placed;
    }
  }
  return write_png(png, sheet);
}

}  // namespace liveavatar
