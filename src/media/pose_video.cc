#include "media/pose_video.h"

extern "C" {
#include <libavutil/display.h>
}

#include <algorithm>
#include <cmath>
#include <cstring>

#include "media/ffmpeg.h"

namespace liveavatar {
namespace {

constexpr int64_t kLargestSide = 8192;
constexpr double kFramesPerSecond = 25;

// Quarter turns clockwise that show the stream upright.
int quarter_turns(const AVStream& stream) {
  const uint8_t* matrix = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, nullptr);
  if (matrix == nullptr) return 0;
  double degrees = -av_display_rotation_get(reinterpret_cast<const int32_t*>(matrix));
  if (!std::isfinite(degrees)) return 0;
  return static_cast<int>((std::lround(degrees / 90) % 4 + 4) % 4);
}

// Clockwise.
void turn(const Image& image, int quarters, Image& out) {
  bool swap = quarters % 2 == 1;
  out.height = swap ? image.width : image.height;
  out.width = swap ? image.height : image.width;
  out.rgb.resize(image.rgb.size());
  for (int64_t y = 0; y < out.height; ++y) {
    for (int64_t x = 0; x < out.width; ++x) {
      int64_t sy = quarters == 1 ? image.height - 1 - x : quarters == 2 ? image.height - 1 - y : x;
      int64_t sx = quarters == 1 ? y : quarters == 2 ? image.width - 1 - x : image.width - 1 - y;
      std::memcpy(&out.rgb[size_t((y * out.width + x) * 3)], &image.rgb[size_t((sy * image.width + sx) * 3)], 3);
    }
  }
}

// Frames of any size and format as RGB of the first one's size.
class RgbConverter {
 public:
  Status convert(const AVFrame& frame, const std::string& path, Image& image) {
    if (image.width == 0) {
      image.width = frame.width;
      image.height = frame.height;
    }
    LA_RETURN_IF_ERROR(prepare(frame, path, image));
    // swscale may write a vector beyond a row: rows are padded, then packed.
    int stride = static_cast<int>((image.width * 3 + 63) / 64 * 64);
    padded_.resize(static_cast<size_t>(stride * image.height + 64));
    uint8_t* target[4] = {padded_.data()};
    int strides[4] = {stride};
    sws_scale(scaler_.get(), frame.data, frame.linesize, 0, frame.height, target, strides);
    image.rgb.resize(static_cast<size_t>(image.height * image.width * 3));
    for (int64_t y = 0; y < image.height; ++y)
      std::memcpy(image.rgb.data() + y * image.width * 3, padded_.data() + y * stride, size_t(image.width) * 3);
    return {};
  }

 private:
  Status prepare(const AVFrame& frame, const std::string& path, const Image& image) {
    if (scaler_ && frame.format == format_ && frame.width == width_ && frame.height == height_) return {};
    format_ = frame.format;
    width_ = frame.width;
    height_ = frame.height;
    int flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP;
    scaler_.reset(sws_getContext(width_, height_, static_cast<AVPixelFormat>(format_), static_cast<int>(image.width),
                                 static_cast<int>(image.height), AV_PIX_FMT_RGB24, flags, nullptr, nullptr, nullptr));
    if (!scaler_) return unsupported(path + ": a pixel format that cannot be converted");
    bool tagged = frame.colorspace != AVCOL_SPC_UNSPECIFIED && frame.colorspace != AVCOL_SPC_RGB;
    const int* matrix = sws_getCoefficients(tagged ? frame.colorspace : SWS_CS_ITU601);
    bool full = frame.color_range == AVCOL_RANGE_JPEG;
    sws_setColorspaceDetails(scaler_.get(), matrix, full, matrix, 1, 0, 1 << 16, 1 << 16);
    return {};
  }

  Owned<SwsContext> scaler_;
  int format_ = -1, width_ = 0, height_ = 0;
  std::vector<uint8_t> padded_;
};

class FfmpegPose : public PoseVideo {
 public:
  FfmpegPose(std::string path, Input input, FrameRule rule)
      : path_(std::move(path)), input_(std::move(input)), rule_(rule) {
    const AVStream& stream = *input_.format->streams[input_.stream];
    time_base_ = av_q2d(stream.time_base);
    if (stream.avg_frame_rate.num > 0 && stream.avg_frame_rate.den > 0) rate_ = av_q2d(stream.avg_frame_rate);
    if (rule_ == FrameRule::kResampled) turns_ = quarter_turns(stream);
  }

  int64_t index() const override { return index_; }

  Expected<const Image*> next() override {
    bool found = rule_ == FrameRule::kOriginal ? step() : advance();
    if (!found) return static_cast<const Image*>(nullptr);
    if (index_ == converted_) return shown();
    LA_RETURN_IF_ERROR(converter_.convert(*current_, path_, image_));
    if (turns_ != 0) turn(image_, turns_, turned_);
    converted_ = index_;
    return shown();
  }

  Status begin() {
    if (!decode()) return corrupt(path_ + ": there are no frames in this video");
    return {};
  }

 private:
  const Image* shown() const { return turns_ == 0 ? &image_ : &turned_; }

  // Decodes the frame behind the current one into ahead_.
  bool decode() {
    if (!input_.next()) {
      ended_ = true;
      return false;
    }
    ahead_.reset(av_frame_clone(input_.frame.get()));
    ++decoded_;
    ended_ = ahead_ == nullptr;
    return !ended_;
  }

  // ahead_ becomes the current frame.
  void take() {
    current_ = std::move(ahead_);
    index_ = decoded_ - 1;
    begins_ = seconds_of(*current_, index_);
    decode();
  }

  // When a frame begins, from the first one's beginning.
  double seconds_of(const AVFrame& frame, int64_t index) {
    int64_t stamp = frame.best_effort_timestamp;
    double seconds = stamp == AV_NOPTS_VALUE ? double(index) / rate_ : double(stamp) * time_base_;
    if (index == 0) origin_ = seconds;
    return seconds - origin_;
  }

  bool step() {
    int64_t interval = std::max<int64_t>(1, std::llrint(rate_ / kFramesPerSecond));  // halves to even
    int64_t frames = index_ < 0 ? 1 : interval;
    for (int64_t i = 0; i < frames; ++i) {
      if (ended_) return false;
      take();
    }
    return true;
  }

  // To the frame that is shown at the next 25th of a second. The last one is shown for as long as the ones before.
  bool advance() {
    double now = double(asked_++) / kFramesPerSecond + 1e-6;
    if (index_ < 0) take();
    while (!ended_ && seconds_of(*ahead_, index_ + 1) <= now) take();
    return !ended_ || now < begins_ + 1 / rate_;
  }

  std::string path_;
  Input input_;
  FrameRule rule_;
  int turns_ = 0;
  double time_base_ = 0, rate_ = kFramesPerSecond;
  Owned<AVFrame> current_, ahead_;
  RgbConverter converter_;
  Image image_, turned_;
  double origin_ = 0, begins_ = 0;
  int64_t index_ = -1, decoded_ = 0, converted_ = -1, asked_ = 0;
  bool ended_ = false;
};

Expected<Input> open_video(const std::string& path) {
  LA_ASSIGN_OR_RETURN(Input input, Input::open(path, AVMEDIA_TYPE_VIDEO, "a video"));
  if (input.decoder->width > kLargestSide || input.decoder->height > kLargestSide) {
    return corrupt(path + ": the frames are " + std::to_string(input.decoder->width) + "x" +
                   std::to_string(input.decoder->height) + "; at most 8192 a side are taken");
  }
  return input;
}

}  // namespace

Expected<std::unique_ptr<PoseVideo>> open_pose_video(const std::string& path, FrameRule rule) {
  LA_ASSIGN_OR_RETURN(Input input, open_video(path));
  auto video = std::make_unique<FfmpegPose>(path, std::move(input), rule);
  LA_RETURN_IF_ERROR(video->begin());
  return std::unique_ptr<PoseVideo>(std::move(video));
}

Expected<PoseVideoInfo> pose_video_info(const std::string& path, FrameRule rule) {
  LA_ASSIGN_OR_RETURN(Input input, open_video(path));
  PoseVideoInfo info{input.decoder->height, input.decoder->width, 0};
  const AVStream& stream = *input.format->streams[input.stream];
  if (rule == FrameRule::kResampled && quarter_turns(stream) % 2 == 1) std::swap(info.height, info.width);
  if (stream.duration > 0) {
    info.seconds = double(stream.duration) * av_q2d(stream.time_base);
  } else if (input.format->duration > 0) {
    info.seconds = double(input.format->duration) / AV_TIME_BASE;
  }
  return info;
}

size_t pose_video_bytes(int64_t height, int64_t width) {
  constexpr size_t kFixedBytes = size_t{2} << 20;
  constexpr size_t kDecodedFrames = 20,
                   kRgbPictures = 3;  // 16 references and a few on their way; padded, plain, turned
  size_t pixels = static_cast<size_t>(height * width);
  return kFixedBytes + kDecodedFrames * pixels * 3 / 2 + kRgbPictures * pixels * 3;
}

}  // namespace liveavatar
