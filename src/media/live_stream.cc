#include "media/live_stream.h"

#include <utility>
#include <vector>

#include "media/network_sink.h"
#include "media/packet_source.h"
#include "media/sound_track.h"

namespace liveavatar {
namespace {

class EncodedStream final : public LiveStream {
 public:
  EncodedStream(const LiveStreamOptions& options, std::unique_ptr<PacketSink> sink)
      : source_(std::move(sink)), options_(options) {}

  Status begin() {
    VideoWriterOptions picture;
    picture.width = options_.width;
    picture.height = options_.height;
    picture.fps = options_.fps;
    picture.crf = options_.crf;
    picture.preset = options_.preset;
    picture.threads = options_.threads;
    picture.live = true;
    LA_ASSIGN_OR_RETURN(sound_,
                        SoundTrack::open(SoundCodec::kAac, int(options_.sample_rate), options_.sound_bits_per_second));
    return source_.begin(picture, &sound_->encoder());
  }

  Status write(const LiveFrames& f) override {
    if (next_ < 0) first_ = next_ = f.first_frame;
    LA_CHECK(f.first_frame >= next_);
    LA_RETURN_IF_ERROR(write_silence(f.first_frame - next_));
    next_ = f.first_frame + f.frames;
    for (int64_t i = 0; i < f.frames; ++i)
      LA_RETURN_IF_ERROR(
          source_.write_picture(f.rgb + i * options_.width * options_.height * 3, f.first_frame + i - first_, false));
    return sound_->write({f.audio, static_cast<size_t>(f.samples)}, source_.sound_taker());
  }

  Status finish() override {
    LA_RETURN_IF_ERROR(source_.finish_picture());
    LA_RETURN_IF_ERROR(sound_->finish(source_.sound_taker()));
    return source_.sink().finish();
  }

 private:
  Status write_silence(int64_t frames) {
    const std::vector<int16_t> silence(static_cast<size_t>(options_.sample_rate / options_.fps));
    for (int64_t i = 0; i < frames; ++i) LA_RETURN_IF_ERROR(sound_->write(silence, source_.sound_taker()));
    return {};
  }

  std::unique_ptr<SoundTrack> sound_;
  PacketSource source_;  // before the sound, which its sink looks at
  const LiveStreamOptions options_;
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
