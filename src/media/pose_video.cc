#include "media/pose_video.h"

#include <algorithm>
#include <cmath>

#include "media/ffmpeg.h"
#include "media/orientation.h"
#include "media/pixels.h"

namespace liveavatar {
namespace {

constexpr int64_t kLargestSide = 8192;
constexpr double kFramesPerSecond = 25;

class FfmpegPose : public PoseVideo {
 public:
  FfmpegPose(std::string path, Input input, FrameRule rule)
      : path_(std::move(path)), input_(std::move(input)), rule_(rule) {
    const AVStream& stream = *input_.format->streams[input_.stream];
    time_base_ = av_q2d(stream.time_base);
    if (stream.avg_frame_rate.num > 0 && stream.avg_frame_rate.den > 0) rate_ = av_q2d(stream.avg_frame_rate);
    if (rule_ == FrameRule::kResampled) orientation_ = stream_orientation(stream, 1);
    info_ = info_of(stream);
  }

  const PoseVideoInfo& info() const override { return info_; }
  int64_t index() const override { return index_; }

  Expected<const Image*> next() override {
    bool found = rule_ == FrameRule::kOriginal ? step() : advance();
    if (!found) {
      LA_RETURN_IF_ERROR(input_.status());
      return static_cast<const Image*>(nullptr);
    }
    if (index_ == converted_) return shown();
    LA_RETURN_IF_ERROR(converter_.convert(*current_, path_, image_));
    if (orientation_ != 1) turn();
    converted_ = index_;
    return shown();
  }

  Status begin() {
    if (decode()) return {};
    LA_RETURN_IF_ERROR(input_.status());
    return corrupt(path_ + ": there are no frames in this video; give one that plays");
  }

 private:
  PoseVideoInfo info_of(const AVStream& stream) const {
    PoseVideoInfo info{input_.decoder->height, input_.decoder->width, 0};
    if (swaps_sides(orientation_)) std::swap(info.height, info.width);
    if (stream.duration > 0) {
      info.seconds = double(stream.duration) * time_base_;
    } else if (input_.format->duration > 0) {
      info.seconds = double(input_.format->duration) / AV_TIME_BASE;
    }
    return info;
  }

  const Image* shown() const { return orientation_ == 1 ? &image_ : &upright_; }

  void turn() {
    bool swap = swaps_sides(orientation_);
    upright_.height = swap ? image_.width : image_.height;
    upright_.width = swap ? image_.height : image_.width;
    upright_.rgb.resize(image_.rgb.size());
    turn_pixels<3>(image_.rgb.data(), image_.height, image_.width, orientation_, upright_.rgb.data());
  }

  // Decodes the frame after the current one into ahead_.
  bool decode() {
    if (!input_.next()) {
      ended_ = true;
      return false;
    }
    ahead_.reset(av_frame_clone(input_.frame.get()));
    ++decoded_;
    ended_ = input_.no_memory = ahead_ == nullptr;
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
  int orientation_ = 1;  // EXIF's
  PoseVideoInfo info_;
  double time_base_ = 0, rate_ = kFramesPerSecond;
  Owned<AVFrame> current_, ahead_;
  RgbConverter converter_;
  Image image_, upright_;
  double origin_ = 0, begins_ = 0;
  int64_t index_ = -1, decoded_ = 0, converted_ = -1, asked_ = 0;
  bool ended_ = false;
};

}  // namespace

Expected<std::unique_ptr<PoseVideo>> open_pose_video(const std::string& path, FrameRule rule) {
  LA_ASSIGN_OR_RETURN(SharedFile file, ReadFile::open(path, "a video"));
  LA_ASSIGN_OR_RETURN(Input input, Input::open(file, AVMEDIA_TYPE_VIDEO, "a video", kLargestSide * kLargestSide));
  if (input.decoder->width > kLargestSide || input.decoder->height > kLargestSide) {
    return corrupt(path + ": the frames are " + std::to_string(input.decoder->width) + "x" +
                   std::to_string(input.decoder->height) + "; at most 8192 a side are taken");
  }
  auto video = std::make_unique<FfmpegPose>(path, std::move(input), rule);
  LA_RETURN_IF_ERROR(video->begin());
  return std::unique_ptr<PoseVideo>(std::move(video));
}

}  // namespace liveavatar
