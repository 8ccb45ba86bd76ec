#include "media/rgb_to_yuv.h"

#include <cstring>

namespace liveavatar {
namespace {

constexpr size_t kReadBeyond = 256;

}  // namespace

Expected<RgbToYuv> RgbToYuv::open(const AVCodecContext& encoder) {
  RgbToYuv converter;
  converter.staging_.resize(static_cast<size_t>(encoder.width) * static_cast<size_t>(encoder.height) * 3 + kReadBeyond);
  converter.frame_.reset(av_frame_alloc());
  converter.scaler_.reset(sws_getContext(encoder.width, encoder.height, AV_PIX_FMT_RGB24, encoder.width, encoder.height,
                                         AV_PIX_FMT_YUV420P, SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP,
                                         nullptr, nullptr, nullptr));
  const Status no_memory =
      out_of_memory("no memory for the video encoder; take a smaller `size`, or close other programs");
  if (!converter.frame_ || !converter.scaler_) return no_memory;
  AVFrame& frame = *converter.frame_;
  frame.format = encoder.pix_fmt;
  frame.width = encoder.width;
  frame.height = encoder.height;
  if (av_frame_get_buffer(&frame, 0) < 0) return no_memory;
  const int* matrix = sws_getCoefficients(SWS_CS_ITU709);
  sws_setColorspaceDetails(converter.scaler_.get(), matrix, 1, matrix, 0, 0, 1 << 16, 1 << 16);
  return converter;
}

Expected<AVFrame*> RgbToYuv::convert(const uint8_t* rgb) {
  AVFrame& frame = *frame_;
  if (av_frame_make_writable(&frame) < 0)
    return out_of_memory("no memory for a video frame; take a smaller `size`, or close other programs");
  // swscale reads whole vectors, beyond the end of the last row: give it a padded copy.
  std::memcpy(staging_.data(), rgb, staging_.size() - kReadBeyond);
  const uint8_t* source[4] = {staging_.data()};
  const int stride[4] = {frame.width * 3};
  sws_scale(scaler_.get(), source, stride, 0, frame.height, frame.data, frame.linesize);
  return &frame;
}

}  // namespace liveavatar
