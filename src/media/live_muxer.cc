#include "media/live_muxer.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "media/ffmpeg.h"
#include "media/rgb_to_yuv.h"
#include "media/sound_track.h"
#include "media/video_encoder.h"

namespace liveavatar {
namespace {

constexpr int kBufferBytes = 32768;
constexpr int kPicture = 0, kSound = 1;  // streams

// An exception must not pass FFmpeg's frames.
int append_bytes(void* opaque, uint8_t* bytes, int count) try {
  auto& all = *static_cast<std::vector<std::byte>*>(opaque);
  const auto* from = reinterpret_cast<const std::byte*>(bytes);
  all.insert(all.end(), from, from + count);
  return count;
} catch (const std::bad_alloc&) {
  return AVERROR(ENOMEM);
}

OwnedIo io_to_memory(std::vector<std::byte>& bytes) {
  auto* buffer = static_cast<uint8_t*>(av_malloc(kBufferBytes));
  if (buffer == nullptr) return nullptr;
  OwnedIo io(avio_alloc_context(buffer, kBufferBytes, 1, &bytes, nullptr, append_bytes, nullptr));
  if (!io) av_free(buffer);
  return io;
}

Status check(const LiveMuxerOptions& options) {
  const std::string sides = std::to_string(options.width) + "x" + std::to_string(options.height);
  if (options.width < 2 || options.height < 2 || options.width % 2 != 0 || options.height % 2 != 0)
    return invalid_argument("a stream of " + sides + ": H.264 takes even sides; choose another `size`");
  if (options.sample_rate < 8000 || options.sample_rate > 48000 || options.sample_rate % options.fps != 0)
    return invalid_argument("a stream's sound at " + std::to_string(options.sample_rate) +
                            " Hz: choose a multiple of " + std::to_string(options.fps) + " from 8000 to 48000");
  return {};
}

// The profile, the constraints and the level of the stream's SPS, a byte each, behind its start code.
Expected<std::string> avc_name(const AVCodecParameters& stream) {
  const uint8_t* bytes = stream.extradata;
  for (int i = 0; i + 6 < stream.extradata_size; ++i) {
    const bool start = bytes[i] == 0 && bytes[i + 1] == 0 && bytes[i + 2] == 1;
    if (!start || (bytes[i + 3] & 31) != 7) continue;
    char name[16];
    std::snprintf(name, sizeof(name), "avc1.%02x%02x%02x", bytes[i + 4], bytes[i + 5], bytes[i + 6]);
    return std::string(name);
  }
  return unsupported(
      "the H.264 encoder of FFmpeg here states no profile; install FFmpeg's libraries as Debian has them");
}

class Fmp4Muxer : public LiveMuxer {
 public:
  Fmp4Muxer(const LiveMuxerOptions& options, LiveSegmentSink sink) : options_(options), sink_(std::move(sink)) {}

  Status begin() {
    AVFormatContext* format = nullptr;
    if (avformat_alloc_output_context2(&format, nullptr, "mp4", nullptr) < 0)
      return unsupported("FFmpeg here cannot write MP4; install FFmpeg's libraries as Debian has them");
    format_.reset(format);
    format->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_BITEXACT;
    io_ = io_to_memory(bytes_);
    packet_.reset(av_packet_alloc());
    if (!io_ || !packet_) return out_of_memory("no memory for a stream; close other programs");
    format->pb = io_.get();
    LA_RETURN_IF_ERROR(open_picture());
    LA_ASSIGN_OR_RETURN(sound_,
                        SoundTrack::open(SoundCodec::kOpus, int(options_.sample_rate), options_.sound_bits_per_second));
    LA_RETURN_IF_ERROR(add_stream(*format_, sound_->encoder()).status());
    return write_header();
  }

  std::string codecs() const override { return codecs_; }
  void request_keyframe() override { keyframe_wanted_ = true; }

  Status write(const uint8_t* rgb, int64_t frames, const int16_t* audio, int64_t samples) override {
    if (frames < 1 || samples != frames * (options_.sample_rate / options_.fps))
      return invalid_argument("a stream: " + std::to_string(samples) + " samples are not the sound of " +
                              std::to_string(frames) + " frames; give " +
                              std::to_string(options_.sample_rate / options_.fps) + " a frame");
    LA_CHECK(!finished_);
    const bool wanted = keyframe_wanted_.exchange(false);
    force_key_ = force_key_ || wanted || since_key_ + frames > options_.fps;
    const int64_t frame_bytes = options_.width * options_.height * 3;
    for (int64_t i = 0; i < frames; ++i) LA_RETURN_IF_ERROR(write_frame(rgb + i * frame_bytes));
    LA_RETURN_IF_ERROR(sound_->write({audio, static_cast<size_t>(samples)}, sound_sink()));
    return end_fragment();
  }

  Status finish() override {
    if (finished_) return {};
    finished_ = true;
    if (frames_ == 0) return {};
    LA_RETURN_IF_ERROR(encode(nullptr));
    LA_RETURN_IF_ERROR(sound_->finish(sound_sink()));
    return end_fragment();
  }

 private:
  Status open_picture() {
    VideoWriterOptions options;
    options.width = options_.width;
    options.height = options_.height;
    options.fps = options_.fps;
    options.crf = options_.crf;
    options.preset = options_.preset;
    options.threads = options_.threads;
    options.live = true;
    LA_ASSIGN_OR_RETURN(encoder_, open_video_encoder(options));
    LA_ASSIGN_OR_RETURN(converter_, RgbToYuv::open(*encoder_));
    LA_ASSIGN_OR_RETURN(AVStream * stream, add_stream(*format_, *encoder_));
    stream->avg_frame_rate = encoder_->framerate;
    LA_ASSIGN_OR_RETURN(const std::string picture, avc_name(*stream->codecpar));
    codecs_ = picture + ",opus";
    return {};
  }

  Status write_header() {
    AVDictionary* settings = nullptr;
    // The header waits for the first fragment, so that its edit list cuts the encoder's lead-in. No trailer: the muxer
    // would keep the place of every fragment for it.
    av_dict_set(&settings, "movflags", "frag_custom+delay_moov+default_base_moof+skip_trailer", 0);
    const int code = avformat_write_header(format_.get(), &settings);
    av_dict_free(&settings);
    return code < 0 ? failed(code) : Status();
  }

  Status write_frame(const uint8_t* rgb) {
    LA_ASSIGN_OR_RETURN(AVFrame * frame, converter_->convert(rgb));
    frame->pts = frames_++;
    frame->pict_type = force_key_ ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE;
    force_key_ = false;
    return encode(frame);
  }

  Status encode(const AVFrame* frame) {
    if (int code = avcodec_send_frame(encoder_.get(), frame); code < 0)
      return io_error("a stream: the H.264 encoder failed (" + ffmpeg_error(code) + "); close other programs");
    return take_packets(*encoder_, *packet_, [this](AVPacket& packet) {
      const bool key = (packet.flags & AV_PKT_FLAG_KEY) != 0;
      if (packets_[kPicture] == 0) begins_with_key_ = key;
      since_key_ = key ? 1 : since_key_ + 1;
      packet.duration = 1;
      return put(packet, kPicture, encoder_->time_base);
    });
  }

  PacketTaker sound_sink() {
    return [this](AVPacket& packet) { return put(packet, kSound, sound_->encoder().time_base); };
  }

  Status put(AVPacket& packet, int stream, AVRational time_base) {
    ++packets_[stream];
    packet.stream_index = stream;
    av_packet_rescale_ts(&packet, time_base, format_->streams[stream]->time_base);
    // Not the interleaved one, which would wait for the other stream.
    const int code = av_write_frame(format_.get(), &packet);
    av_packet_unref(&packet);
    return code < 0 ? failed(code) : Status();
  }

  Status end_fragment() {
    if (!begun_) {
      if (packets_[kSound] == 0) return {};  // the init segment says where both begin
      LA_RETURN_IF_ERROR(hand_out(LiveSegment::Kind::kInit));
      begun_ = true;
    }
    if (packets_[kPicture] + packets_[kSound] == 0) return {};
    const bool key = packets_[kPicture] > 0 && begins_with_key_;
    packets_[kPicture] = packets_[kSound] = 0;
    return hand_out(key ? LiveSegment::Kind::kKey : LiveSegment::Kind::kFragment);
  }

  // The muxer writes the init segment at its first flush, and nothing else then.
  Status hand_out(LiveSegment::Kind kind) {
    const int code = av_write_frame(format_.get(), nullptr);
    if (code < 0) return failed(code);
    avio_flush(io_.get());
    if (io_->error < 0) return failed(io_->error);
    sink_({kind, bytes_});
    bytes_.clear();
    return {};
  }

  static Status failed(int code) {
    return io_error("a stream: it could not be written (" + ffmpeg_error(code) + "); close other programs");
  }

  const LiveMuxerOptions options_;
  const LiveSegmentSink sink_;
  std::vector<std::byte> bytes_;  // of the segment
  OwnedIo io_;
  OwnedOutput format_;  // before `io_`, which it writes through
  Owned<AVCodecContext> encoder_;
  Owned<AVPacket> packet_;
  std::optional<RgbToYuv> converter_;
  std::unique_ptr<SoundTrack> sound_;
  std::string codecs_;
  std::atomic<bool> keyframe_wanted_ = false;
  bool force_key_ = false, begun_ = false, finished_ = false;
  bool begins_with_key_ = false;  // the fragment
  int64_t frames_ = 0;
  int64_t since_key_ = 0;        // frames from the last keyframe on
  int64_t packets_[2] = {0, 0};  // in the fragment
};

}  // namespace

Expected<std::unique_ptr<LiveMuxer>> LiveMuxer::open(const LiveMuxerOptions& options, LiveSegmentSink sink) {
  LA_RETURN_IF_ERROR(check(options));
  auto muxer = std::make_unique<Fmp4Muxer>(options, std::move(sink));
  LA_RETURN_IF_ERROR(muxer->begin());
  return std::unique_ptr<LiveMuxer>(std::move(muxer));
}

}  // namespace liveavatar
