#include "media/video_writer.h"

#include <unistd.h>

#include <cctype>
#include <cmath>
#include <filesystem>
#include <optional>
#include <tuple>

#include "core/errno_text.h"
#include "core/system_calls.h"
#include "core/text.h"
#include "media/audio_track.h"
#include "media/encode.h"
#include "media/ffmpeg.h"
#include "media/hls_sink.h"
#include "media/plain_mp4.h"
#include "media/rgb_to_yuv.h"
#include "media/stream_writer.h"
#include "media/video_encoder.h"

namespace liveavatar {
namespace {

constexpr double kFragmentSeconds = 0.48;  // a block of the model: what is finished is on the disk

// What FFmpeg can write as it grows from these two encoders.
struct Container {
  const char *ending, *muxer;
  bool fragments;  // MP4: they become a plain file at the end
};
constexpr Container kContainers[] = {
    {".mp4", "mp4", true}, {".m4v", "mp4", true}, {".mov", "mov", true}, {".mkv", "matroska", false}};

// HLS: the name is that of the playlist.
constexpr const char* kPlaylistEnding = ".m3u8";

bool is_playlist(const std::string& path) {
  return lower_case(std::filesystem::path(path).extension().string()) == kPlaylistEnding;
}

const Container* container_of(const std::string& path) {
  std::string ending = lower_case(std::filesystem::path(path).extension().string());
  for (const Container& container : kContainers) {
    if (ending == container.ending) return &container;
  }
  return nullptr;
}

class FileWriter : public VideoWriter {
 public:
  FileWriter(OutputClaim& claim, VideoWriterOptions options)
      : claim_(claim), path_(claim.path()), options_(std::move(options)), container_(*container_of(path_)) {}
  FileWriter(OutputClaim&& claim, VideoWriterOptions options)
      : own_claim_(std::move(claim)),
        claim_(own_claim_),
        path_(claim_.path()),
        options_(std::move(options)),
        container_(*container_of(path_)) {}

  Status begin(std::unique_ptr<AudioStream> audio) {
    AVFormatContext* format = nullptr;
    if (avformat_alloc_output_context2(&format, nullptr, container_.muxer, nullptr) < 0)
      return unsupported(path_ + ": FFmpeg here cannot write " + container_.ending +
                         "; choose another ending, .mkv or .mp4");
    format_.reset(format);
    format->flags |= AVFMT_FLAG_FLUSH_PACKETS | AVFMT_FLAG_BITEXACT;
    LA_RETURN_IF_ERROR(open_video());
    if (audio) {
      LA_ASSIGN_OR_RETURN(sound_, AudioTrack::open(std::move(audio), true));
      LA_RETURN_IF_ERROR(add_stream(*format, sound_->encoder()).status());
    }
    LA_ASSIGN_OR_RETURN(fd_, claim_.begin());
    io_ = io_to(fd_);
    if (io_ == nullptr) return out_of_memory("no memory for the video file; close other programs");
    format->pb = io_.get();
    AVDictionary* settings = nullptr;
    // The header waits for the first fragment, so that the encoder's lead-in can be cut by an edit list.
    if (container_.fragments) av_dict_set(&settings, "movflags", "frag_custom+delay_moov+default_base_moof", 0);
    int code = avformat_write_header(format, &settings);
    av_dict_free(&settings);
    return code < 0 ? io_error(path_ + ": the video cannot be begun (" + ffmpeg_error(code) + "); " +
                               errno_advice(AVUNERROR(code), "make room, or choose another place"))
                    : Status();
  }

  // What is behind the last fragment that is whole plays nowhere.
  ~FileWriter() override {
    if (fd_ >= 0 && !is_whole_) std::ignore = retry_interrupted([this] { return ::ftruncate(fd_, safe_bytes_); });
  }

  std::string encoder() const override { return encoder_->codec->name; }

  Status write_frame(const uint8_t* rgb) override {
    LA_ASSIGN_OR_RETURN(AVFrame * frame, converter_->convert(rgb));
    frame->pts = frames_;
    LA_RETURN_IF_ERROR(encode(frame));
    ++frames_;
    if (sound_) LA_RETURN_IF_ERROR(sound_->advance(double(frames_) / options_.fps, audio_sink()));
    return frames_ % fragment_frames() == 0 ? end_fragment() : Status();
  }

  Status finish() override {
    if (finished_) return {};
    finished_ = true;
    LA_RETURN_IF_ERROR(encode(nullptr));
    if (sound_) LA_RETURN_IF_ERROR(sound_->finish(audio_sink()));
    int code = av_write_trailer(format_.get());
    if (code < 0 || format_->pb->error < 0) return write_failed(code < 0 ? code : format_->pb->error);
    avio_flush(io_.get());
    if (io_->error < 0) return write_failed(io_->error);
    is_whole_ = true;
    LA_RETURN_IF_ERROR(claim_.publish());
    if (container_.fragments) LA_RETURN_IF_ERROR(make_plain_mp4(fd_, path_));
    LA_RETURN_IF_ERROR(claim_.sync());
    return claim_.check_name();
  }

 private:
  int64_t fragment_frames() const { return std::max<int64_t>(1, std::lround(kFragmentSeconds * options_.fps)); }

  // All that was encoded goes into the file, which has its name from the first time on.
  Status end_fragment() {
    int code = av_interleaved_write_frame(format_.get(), nullptr);
    // The first flush of an MP4 may write no more than its header.
    for (int flush = 0; flush < 2 && code >= 0; ++flush) code = av_write_frame(format_.get(), nullptr);
    avio_flush(io_.get());
    if (code < 0 || io_->error < 0) return write_failed(code < 0 ? code : io_->error);
    LA_RETURN_IF_ERROR(claim_.publish());
    safe_bytes_ = avio_tell(io_.get());
    safe_frames_ = frames_;
    return {};
  }

  Status open_video() {
    LA_ASSIGN_OR_RETURN(encoder_, open_video_encoder(options_));
    LA_ASSIGN_OR_RETURN(AVStream * stream, add_stream(*format_, *encoder_));
    stream->avg_frame_rate = encoder_->framerate;
    if (encoder_->codec_id == AV_CODEC_ID_HEVC && container_.fragments)
      stream->codecpar->codec_tag = MKTAG('h', 'v', 'c', '1');  // Apple's players open no other HEVC
    packet_.reset(av_packet_alloc());
    if (!packet_) return out_of_memory("no memory for the video encoder; close other programs");
    LA_ASSIGN_OR_RETURN(converter_, RgbToYuv::open(*encoder_));
    return {};
  }

  Status encode(const AVFrame* frame) {
    if (int code = avcodec_send_frame(encoder_.get(), frame); code < 0)
      return io_error(path_ + ": the video encoder failed (" + ffmpeg_error(code) +
                      "); take another `size`, or close other programs");
    return take_packets(*encoder_, *packet_, [this](AVPacket& packet) { return put(packet, 0, encoder_->time_base); });
  }

  PacketTaker audio_sink() {
    return [this](AVPacket& packet) { return put(packet, 1, sound_->encoder().time_base); };
  }

  Status put(AVPacket& packet, int stream, AVRational time_base) {
    if (packet.duration == 0 && stream == 0) packet.duration = 1;
    packet.stream_index = stream;
    av_packet_rescale_ts(&packet, time_base, format_->streams[stream]->time_base);
    int code = av_interleaved_write_frame(format_.get(), &packet);
    if (code < 0 || format_->pb->error < 0) return write_failed(code < 0 ? code : format_->pb->error);
    return {};
  }

  Status write_failed(int code) const {
    const std::string left = safe_frames_ == 0
                                 ? "nothing of it is kept; "
                                 : "the first " + std::to_string(safe_frames_) + " frames are safe in it; ";
    return io_error(path_ + ": writing failed (" + ffmpeg_error(code) + "); " + left +
                    errno_advice(AVUNERROR(code), "make room, or choose another place"));
  }

  OutputClaim own_claim_;
  OutputClaim& claim_;
  std::string path_;
  VideoWriterOptions options_;
  const Container& container_;
  int fd_ = -1;
  OwnedIo io_;
  OwnedOutput format_;  // before `io_`, which it writes through
  Owned<AVCodecContext> encoder_;
  Owned<AVPacket> packet_;
  std::optional<RgbToYuv> converter_;
  std::unique_ptr<AudioTrack> sound_;
  int64_t frames_ = 0;
  int64_t safe_frames_ = 0, safe_bytes_ = 0;  // in whole fragments
  bool finished_ = false;
  bool is_whole_ = false;  // the file plays to its end
};

}  // namespace

Status check_video_path(const std::string& path) {
  if (container_of(path) || is_playlist(path)) return {};
  std::string known;
  for (const Container& c : kContainers) {
    bool last = &c == std::end(kContainers) - 1;
    known += std::string(known.empty() ? "" : last ? " or " : ", ") + c.ending;
  }
  return invalid_argument(path + ": the name must end in " + known + ", or in " + kPlaylistEnding + " for HLS");
}

bool writes_segment(const std::string& video, const std::string& file) {
  return is_playlist(video) && HlsSink::is_segment(file, video);
}

namespace {

// claim: of a playlist, owned or held by the caller.
template <typename Claim>
Expected<std::unique_ptr<VideoWriter>> open_playlist(Claim&& claim, const VideoWriterOptions& options,
                                                     std::unique_ptr<AudioStream> audio) {
  auto sink = std::make_unique<HlsSink>(std::forward<Claim>(claim));
  return open_stream_writer({std::move(sink), false, {}}, options, std::move(audio));
}

template <typename Claim>
Expected<std::unique_ptr<VideoWriter>> open_file(Claim&& claim, const VideoWriterOptions& options,
                                                 std::unique_ptr<AudioStream> audio) {
  if (is_playlist(claim.path())) return open_playlist(std::forward<Claim>(claim), options, std::move(audio));
  auto writer = std::make_unique<FileWriter>(std::forward<Claim>(claim), options);
  LA_RETURN_IF_ERROR(writer->begin(std::move(audio)));
  return std::unique_ptr<VideoWriter>(std::move(writer));
}

}  // namespace

Expected<std::unique_ptr<VideoWriter>> VideoWriter::open(const std::string& path, const VideoWriterOptions& options,
                                                         std::unique_ptr<AudioStream> audio) {
  LA_RETURN_IF_ERROR(check_video_path(path));
  LA_ASSIGN_OR_RETURN(OutputClaim claim, OutputClaim::acquire({"", path}));
  return open_file(std::move(claim), options, std::move(audio));
}

Expected<std::unique_ptr<VideoWriter>> VideoWriter::open(OutputClaim& claim, const VideoWriterOptions& options,
                                                         std::unique_ptr<AudioStream> audio) {
  LA_RETURN_IF_ERROR(check_video_path(claim.path()));
  return open_file(claim, options, std::move(audio));
}

Expected<std::unique_ptr<VideoWriter>> VideoWriter::open(StreamOutput& output, const VideoWriterOptions& options,
                                                         std::unique_ptr<AudioStream> audio) {
  return open_stream_writer(output.take(), options, std::move(audio));
}

}  // namespace liveavatar
