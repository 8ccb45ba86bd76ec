#include "media/stream_writer.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "media/audio_track.h"
#include "media/network_sink.h"
#include "media/pipe_sink.h"
#include "media/rgb_to_yuv.h"
#include "media/video_encoder.h"

namespace liveavatar {
namespace {

constexpr int64_t kFlushFrames = 12;  // a block of the model

// Frames at their time: 25 a second from the first one on. A job that is slower is not held up.
class Pacer {
 public:
  Pacer(int fps, std::stop_token stop) : fps_(fps), stop_(std::move(stop)) {}
  void wait_for(int64_t frame) {
    if (!begun_) restart(frame);
    const auto since_begin = std::chrono::duration<double>(double(frame - first_) / fps_);
    const auto due = begin_ + std::chrono::duration_cast<Clock::duration>(since_begin);
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, stop_, due, [] { return false; });
  }
  // The frame is due now.
  void restart(int64_t frame) {
    begun_ = true;
    begin_ = Clock::now();
    first_ = frame;
  }

 private:
  using Clock = std::chrono::steady_clock;
  const int fps_;
  const std::stop_token stop_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool begun_ = false;
  Clock::time_point begin_{};
  int64_t first_ = 0;
};

class StreamWriter : public VideoWriter {
 public:
  StreamWriter(StreamOutput::Parts parts, const VideoWriterOptions& options)
      : sink_(std::move(parts.sink)),
        paced_(parts.paced),
        options_(options),
        pacer_(options.fps, std::move(parts.stop)) {}

  Status begin(std::unique_ptr<AudioStream> audio) {
    LA_ASSIGN_OR_RETURN(encoder_, open_video_encoder(options_));
    LA_ASSIGN_OR_RETURN(converter_, RgbToYuv::open(*encoder_));
    packet_.reset(av_packet_alloc());
    if (!packet_) return out_of_memory("no memory for the video encoder; close other programs");
    if (audio) {
      LA_ASSIGN_OR_RETURN(sound_, AudioTrack::open(std::move(audio), true));
    }
    return sink_->begin({encoder_.get(), sound_ ? &sound_->encoder() : nullptr});
  }

  std::string encoder() const override { return encoder_->codec->name; }

  Status write_frame(const uint8_t* rgb) override {
    if (paced_) pacer_.wait_for(frames_);
    LA_ASSIGN_OR_RETURN(AVFrame * frame, converter_->convert(rgb));
    frame->pts = frames_;
    const bool was_broken = sink_->was_broken();
    if (was_broken) pacer_.restart(frames_);
    frame->pict_type = was_broken ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE;
    LA_RETURN_IF_ERROR(encode(frame));
    ++frames_;
    if (sound_) LA_RETURN_IF_ERROR(sound_->advance(double(frames_) / options_.fps, audio_sink()));
    return frames_ % kFlushFrames == 0 ? sink_->flush() : Status();
  }

  Status finish() override {
    if (finished_) return {};
    finished_ = true;
    LA_RETURN_IF_ERROR(encode(nullptr));
    if (sound_) LA_RETURN_IF_ERROR(sound_->finish(audio_sink()));
    return sink_->finish();
  }

 private:
  Status encode(const AVFrame* frame) {
    if (int code = avcodec_send_frame(encoder_.get(), frame); code < 0)
      return io_error("the video encoder failed (" + ffmpeg_error(code) +
                      "); take another `size`, or close other programs");
    while (avcodec_receive_packet(encoder_.get(), packet_.get()) == 0)
      LA_RETURN_IF_ERROR(sink_->write(*packet_, kPictureStream));
    return {};
  }

  AudioTrack::PacketSink audio_sink() {
    return [this](AVPacket& packet) { return sink_->write(packet, kSoundStream); };
  }

  Owned<AVCodecContext> encoder_;
  std::unique_ptr<AudioTrack> sound_;
  std::unique_ptr<PacketSink> sink_;  // before the encoders, which it looks at
  const bool paced_;
  const VideoWriterOptions options_;
  Pacer pacer_;
  Owned<AVPacket> packet_;
  std::optional<RgbToYuv> converter_;
  int64_t frames_ = 0;
  bool finished_ = false;
};

}  // namespace

StreamOutput::~StreamOutput() = default;
StreamOutput::Parts StreamOutput::take() { return std::move(*parts_); }

Expected<std::unique_ptr<StreamOutput>> StreamOutput::connect(const StreamAddress& address,
                                                              const StreamPatience& patience,
                                                              const std::stop_token& stop) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<PacketSink> sink,
                      NetworkSink::connect(std::make_shared<Connector>(address), patience, stop));
  std::unique_ptr<StreamOutput> output(new StreamOutput());
  output->parts_ = std::make_unique<Parts>(Parts{std::move(sink), true, stop});
  return output;
}

Expected<std::unique_ptr<StreamOutput>> StreamOutput::to_descriptor(int descriptor, const std::stop_token& stop) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<PacketSink> sink, PipeSink::open(descriptor, stop));
  std::unique_ptr<StreamOutput> output(new StreamOutput());
  output->parts_ = std::make_unique<Parts>(Parts{std::move(sink), false, stop});
  return output;
}

Expected<std::unique_ptr<VideoWriter>> open_stream_writer(StreamOutput::Parts parts, const VideoWriterOptions& options,
                                                          std::unique_ptr<AudioStream> audio) {
  VideoWriterOptions chosen = options;
  chosen.h264_only = true;
  chosen.live = parts.paced;
  auto writer = std::make_unique<StreamWriter>(std::move(parts), chosen);
  LA_RETURN_IF_ERROR(writer->begin(std::move(audio)));
  return std::unique_ptr<VideoWriter>(std::move(writer));
}

}  // namespace liveavatar
