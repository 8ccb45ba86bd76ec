#include "media/stream_writer.h"

#include <utility>

#include "media/audio_track.h"
#include "media/network_sink.h"
#include "media/pacer.h"
#include "media/packet_source.h"
#include "media/pipe_sink.h"

namespace liveavatar {
namespace {

constexpr int64_t kFlushFrames = 12;  // a block of the model

class StreamWriter : public VideoWriter {
 public:
  StreamWriter(StreamOutput::Parts parts, const VideoWriterOptions& options)
      : source_(std::move(parts.sink)),
        paced_(parts.paced),
        options_(options),
        pacer_(options.fps, std::move(parts.stop)) {}

  Status begin(std::unique_ptr<AudioStream> audio) {
    if (audio) {
      LA_ASSIGN_OR_RETURN(sound_, AudioTrack::open(std::move(audio), true));
    }
    return source_.begin(options_, sound_ ? &sound_->encoder() : nullptr);
  }

  std::string encoder() const override { return source_.encoder().codec->name; }

  Status write_frame(const uint8_t* rgb) override {
    if (paced_) pacer_.wait_for(frames_);
    const bool was_broken = source_.sink().was_broken();
    if (was_broken) pacer_.restart(frames_);
    LA_RETURN_IF_ERROR(source_.write_picture(rgb, frames_, was_broken));
    ++frames_;
    if (sound_) LA_RETURN_IF_ERROR(sound_->advance(double(frames_) / options_.fps, source_.sound_taker()));
    return frames_ % kFlushFrames == 0 ? source_.sink().flush() : Status();
  }

  Status finish() override {
    if (finished_) return {};
    finished_ = true;
    LA_RETURN_IF_ERROR(source_.finish_picture());
    if (sound_) LA_RETURN_IF_ERROR(sound_->finish(source_.sound_taker()));
    return source_.sink().finish();
  }

 private:
  std::unique_ptr<AudioTrack> sound_;
  PacketSource source_;  // before the sound, which its sink looks at
  const bool paced_;
  const VideoWriterOptions options_;
  Pacer pacer_;
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
