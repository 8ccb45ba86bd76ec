#include "media/live_stream.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "media/network_sink.h"
#include "media/rgb_to_yuv.h"
#include "media/sound_track.h"
#include "media/video_encoder.h"

namespace liveavatar {
namespace {

class EncodedStream final : public LiveStream {
 public:
  EncodedStream(const LiveStreamOptions& options, std::unique_ptr<PacketSink> sink)
      : sink_(std::move(sink)), options_(options) {}

  Status begin() {
    VideoWriterOptions picture;
    picture.width = options_.width;
    picture.height = options_.height;
    picture.fps = options_.fps;
    picture.crf = options_.crf;
    picture.preset = options_.preset;
    picture.threads = options_.threads;
    picture.live = true;
    LA_ASSIGN_OR_RETURN(encoder_, open_video_encoder(picture));
    LA_ASSIGN_OR_RETURN(converter_, RgbToYuv::open(*encoder_));
    packet_.reset(av_packet_alloc());
    if (!packet_) return out_of_memory("no memory for a stream; close other programs");
    LA_ASSIGN_OR_RETURN(sound_,
                        SoundTrack::open(SoundCodec::kAac, int(options_.sample_rate), options_.sound_bits_per_second));
    return sink_->begin({encoder_.get(), &sound_->encoder()});
  }

  Status write(const LiveFrames& f) override {
    if (next_ < 0) first_ = next_ = f.first_frame;
    LA_CHECK(f.first_frame >= next_);
    LA_RETURN_IF_ERROR(write_silence(f.first_frame - next_));
    next_ = f.first_frame + f.frames;
    for (int64_t i = 0; i < f.frames; ++i)
      LA_RETURN_IF_ERROR(write_frame(f.rgb + i * options_.width * options_.height * 3, f.first_frame + i - first_));
    return sound_->write({f.audio, static_cast<size_t>(f.samples)}, sound_sink());
  }

  Status finish() override {
    LA_RETURN_IF_ERROR(encode(nullptr));
    LA_RETURN_IF_ERROR(sound_->finish(sound_sink()));
    return sink_->finish();
  }

 private:
  Status write_silence(int64_t frames) {
    const std::vector<int16_t> silence(static_cast<size_t>(options_.sample_rate / options_.fps));
    for (int64_t i = 0; i < frames; ++i) LA_RETURN_IF_ERROR(sound_->write(silence, sound_sink()));
    return {};
  }

  Status write_frame(const uint8_t* rgb, int64_t time) {
    LA_ASSIGN_OR_RETURN(AVFrame * frame, converter_->convert(rgb));
    frame->pts = time;
    return encode(frame);
  }

  Status encode(const AVFrame* frame) {
    if (int code = avcodec_send_frame(encoder_.get(), frame); code < 0)
      return io_error("a stream: the H.264 encoder failed (" + ffmpeg_error(code) + "); close other programs");
    while (avcodec_receive_packet(encoder_.get(), packet_.get()) == 0)
      LA_RETURN_IF_ERROR(sink_->write(*packet_, kPictureStream));
    return {};
  }

  SoundTrack::PacketSink sound_sink() {
    return [this](AVPacket& packet) { return sink_->write(packet, kSoundStream); };
  }

  Owned<AVCodecContext> encoder_;
  std::unique_ptr<SoundTrack> sound_;
  std::unique_ptr<PacketSink> sink_;  // before the encoders, which it looks at
  const LiveStreamOptions options_;
  Owned<AVPacket> packet_;
  std::optional<RgbToYuv> converter_;
  int64_t first_ = 0, next_ = -1;  // frames; -1: none yet
};

}  // namespace

Expected<std::unique_ptr<LiveStream>> LiveStream::open(const std::shared_ptr<Connector>& connector,
                                                       const LiveStreamOptions& options, const StreamWaits& waits,
                                                       const std::stop_token& stop) {
  const StreamPatience once{waits, 0};
  LA_ASSIGN_OR_RETURN(std::unique_ptr<PacketSink> sink, NetworkSink::connect(connector, once, stop));
  auto stream = std::make_unique<EncodedStream>(options, std::move(sink));
  LA_RETURN_IF_ERROR(stream->begin());
  return std::unique_ptr<LiveStream>(std::move(stream));
}

}  // namespace liveavatar
