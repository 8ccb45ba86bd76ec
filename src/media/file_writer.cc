#include "media/file_writer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <tuple>

#include "core/errno_text.h"
#include "core/folder.h"
#include "core/system_calls.h"
#include "core/text.h"
#include "media/encode.h"
#include "media/mp4_boxes.h"
#include "media/plain_mp4.h"
#include "media/video_encoder.h"

namespace liveavatar {
namespace {

constexpr double kFragmentSeconds = 0.48;  // a block of the model: what is finished is on the disk
constexpr int kMostThreads = 8;            // of the encoder of a resumable file: more win little at its sizes

constexpr Container kContainers[] = {
    {".mp4", "mp4", true}, {".m4v", "mp4", true}, {".mov", "mov", true}, {".mkv", "matroska", false}};

// The same number on the machine that goes on with the file.
int encoder_threads() { return static_cast<int>(std::clamp<long>(::sysconf(_SC_NPROCESSORS_ONLN), 1, kMostThreads)); }

}  // namespace

const Container* container_of(const std::string& path) {
  std::string ending = lower_case(std::filesystem::path(path).extension().string());
  for (const Container& container : kContainers) {
    if (ending == container.ending) return &container;
  }
  return nullptr;
}

std::string container_endings(bool resumable) {
  std::vector<std::string> endings;
  for (const Container& container : kContainers) {
    if (container.fragments || !resumable) endings.push_back(container.ending);
  }
  std::string text = endings.front();
  for (size_t i = 1; i < endings.size(); ++i) text += (i + 1 < endings.size() ? ", " : " or ") + endings[i];
  return text;
}

FileWriter::FileWriter(OutputClaim& claim, VideoWriterOptions options)
    : claim_(claim), path_(claim.path()), options_(std::move(options)), container_(*container_of(path_)) {}

FileWriter::FileWriter(OutputClaim&& claim, VideoWriterOptions options)
    : own_claim_(std::move(claim)),
      claim_(own_claim_),
      path_(claim_.path()),
      options_(std::move(options)),
      container_(*container_of(path_)) {}

FileWriter::~FileWriter() {
  // What is behind the last fragment that is whole plays nowhere. A resumed file that has no new one is as it was.
  const bool changed = file_.fd >= 0 && (!resumed_ || cut_) && !lost_;
  if (changed && !whole_) std::ignore = retry_interrupted([this] { return ::ftruncate(file_.fd, safe_bytes_); });
  if (format_ == nullptr || format_->pb == nullptr || format_->pb == io_.get()) return;
  uint8_t* bytes = nullptr;  // a header that was for no file
  avio_close_dyn_buf(format_->pb, &bytes);
  av_free(bytes);
}

Status FileWriter::begin(std::unique_ptr<AudioStream> audio, const FilePosition* from) {
  AVFormatContext* format = nullptr;
  if (avformat_alloc_output_context2(&format, nullptr, container_.muxer, nullptr) < 0)
    return unsupported(path_ + ": FFmpeg here cannot write " + container_.ending +
                       "; choose another ending, .mkv or .mp4");
  format_.reset(format);
  format->flags |= AVFMT_FLAG_FLUSH_PACKETS | AVFMT_FLAG_BITEXACT;
  resumed_ = from != nullptr;
  if (resumed_) {
    position_ = *from;
    frames_ = safe_frames_ = from->frames;
    fragments_ = from->fragments;
    safe_bytes_ = from->bytes;
  }
  if (options_.resumable) options_.threads = resumed_ ? from->encoder_threads : encoder_threads();
  LA_RETURN_IF_ERROR(open_video());
  if (resumed_ && encoder() != from->encoder)
    return unsupported(path_ + ": was begun by the encoder " + from->encoder + ", here is " + encoder() +
                       "; go on where that one is");
  if (audio) LA_RETURN_IF_ERROR(open_sound(std::move(audio)));
  LA_RETURN_IF_ERROR(open_file(from));
  LA_RETURN_IF_ERROR(write_header());
  return sound_ && resumed_ ? skip_sound() : Status();
}

Status FileWriter::open_video() {
  LA_ASSIGN_OR_RETURN(encoder_, open_video_encoder(options_));
  encoder_name_ = encoder_->codec->name;
  LA_ASSIGN_OR_RETURN(AVStream * stream, add_stream(*format_, *encoder_));
  stream->avg_frame_rate = encoder_->framerate;
  if (encoder_->codec_id == AV_CODEC_ID_HEVC && container_.fragments)
    stream->codecpar->codec_tag = MKTAG('h', 'v', 'c', '1');  // Apple's players open no other HEVC
  packet_.reset(av_packet_alloc());
  if (!packet_) return out_of_memory("no memory for the video encoder; close other programs");
  LA_ASSIGN_OR_RETURN(converter_, RgbToYuv::open(*encoder_));
  return {};
}

Status FileWriter::open_sound(std::unique_ptr<AudioStream> audio) {
  LA_ASSIGN_OR_RETURN(sound_, AudioTrack::open(std::move(audio), true));
  return add_stream(*format_, sound_->encoder()).status();
}

Status FileWriter::open_file(const FilePosition* from) {
  if (resumed_) {
    LA_ASSIGN_OR_RETURN(file_.fd, claim_.reopen(from->bytes));
  } else {
    LA_ASSIGN_OR_RETURN(file_.fd, claim_.begin());
  }
  file_.file = claim_.roomy();
  io_ = io_to(file_);
  if (io_ == nullptr) return out_of_memory("no memory for the video file; close other programs");
  format_->pb = io_.get();
  return {};
}

// Of a resumed file it goes to memory, up to write_without_header(): the file has one.
Status FileWriter::write_header() {
  AVDictionary* settings = nullptr;
  // The header waits for the first fragment, so that the encoder's lead-in can be cut by an edit list.
  std::string flags = "frag_custom+delay_moov+default_base_moof";
  if (options_.resumable) flags += "+skip_trailer";  // a list of the fragments, which would know of the last ones alone
  if (resumed_) flags += "+frag_discont";
  if (!options_.mark.empty()) av_dict_set(&format_->metadata, "comment", options_.mark.c_str(), 0);
  if (container_.fragments) av_dict_set(&settings, "movflags", flags.c_str(), 0);
  if (resumed_) av_dict_set_int(&settings, "fragment_index", position_.fragments + 1, 0);
  if (resumed_ && avio_open_dyn_buf(&format_->pb) < 0) {
    av_dict_free(&settings);
    return out_of_memory("no memory for the video file; close other programs");
  }
  int code = avformat_write_header(format_.get(), &settings);
  av_dict_free(&settings);
  return code < 0 ? io_error(path_ + ": the video cannot be begun (" + ffmpeg_error(code) + "); " +
                             errno_advice(AVUNERROR(code), "make room, or choose another place"))
                  : Status();
}

// The sound is encoded again up to the position, which is quick, so that its encoder stands where it stood.
Status FileWriter::skip_sound() {
  const PacketTaker drop = [](AVPacket& packet) {
    av_packet_unref(&packet);
    return Status();
  };
  for (int64_t frame = 0; frame < frames_; ++frame)
    LA_RETURN_IF_ERROR(sound_->advance(double(frame + 1) / options_.fps, drop));
  return {};
}

Status FileWriter::write_frame(const uint8_t* rgb) {
  if (options_.resumable && frames_ % kSegmentFrames == 0 && encoder_ != nullptr) LA_RETURN_IF_ERROR(begin_segment());
  LA_ASSIGN_OR_RETURN(AVFrame * frame, converter_->convert(rgb));
  frame->pts = frames_;
  LA_RETURN_IF_ERROR(encode(frame));
  ++frames_;
  if (sound_) LA_RETURN_IF_ERROR(sound_->advance(double(frames_) / options_.fps, audio_sink()));
  return frames_ % fragment_frames() == 0 ? end_fragment() : Status();
}

// A fresh encoder. A card's takes long to open; its segments begin with a keyframe alone.
Status FileWriter::begin_segment() {
  if (frames_ == 0 || (resumed_ && frames_ == position_.frames && !begun_)) return {};
  if (encoder_name_.find("nvenc") != std::string::npos) return {};
  LA_RETURN_IF_ERROR(encode(nullptr));
  encoder_.reset();  // before the next: there is memory for one
  LA_ASSIGN_OR_RETURN(encoder_, open_video_encoder(options_));
  return {};
}

Status FileWriter::finish() {
  if (finished_) return {};
  finished_ = true;
  LA_RETURN_IF_ERROR(check_kept());
  LA_RETURN_IF_ERROR(encode(nullptr));
  if (sound_) LA_RETURN_IF_ERROR(sound_->finish(audio_sink()));
  if (resumed_ && !begun_) LA_RETURN_IF_ERROR(flush_fragment());
  int code = av_write_trailer(format_.get());
  if (code < 0 || format_->pb->error < 0) return write_failed(code < 0 ? code : format_->pb->error);
  avio_flush(io_.get());
  if (io_->error < 0) return write_failed(io_->error);
  whole_ = true;
  LA_RETURN_IF_ERROR(claim_.publish());
  if (container_.fragments) LA_RETURN_IF_ERROR(make_plain_mp4(file_.fd, file_.file));
  LA_RETURN_IF_ERROR(options_.resumable ? make_durable() : claim_.sync());
  return claim_.check_name();
}

int64_t FileWriter::fragment_frames() const {
  return std::max<int64_t>(1, std::lround(kFragmentSeconds * options_.fps));
}

// All that was encoded goes into the file, which has its name from the first time on.
Status FileWriter::end_fragment() {
  LA_RETURN_IF_ERROR(check_kept());
  LA_RETURN_IF_ERROR(flush_fragment());
  LA_RETURN_IF_ERROR(claim_.publish());
  safe_bytes_ = avio_tell(io_.get());
  safe_frames_ = frames_;
  if (!options_.resumable) return {};
  ++fragments_;
  if (!begun_) LA_RETURN_IF_ERROR(make_durable());
  begun_ = true;
  if (retry_interrupted([this] { return ::fdatasync(file_.fd); }) != 0) return write_failed(AVERROR(errno));
  if (frames_ % kSegmentFrames != 0) return {};
  position_.frames = frames_;
  position_.fragments = fragments_;
  position_.bytes = safe_bytes_;
  return {};
}

// What others do to the file is seen here: frames that go nowhere are not worth a night of work.
Status FileWriter::check_kept() {
  struct stat info {};
  if (::fstat(file_.fd, &info) != 0 || !S_ISREG(info.st_mode)) return {};
  const Status named = info.st_nlink > 0 ? Status() : claim_.check_name();
  lost_ = !named.ok() || info.st_size < safe_bytes_;
  LA_RETURN_IF_ERROR(named);
  if (!lost_) return {};
  return io_error(path_ + ": another program cut it to " + std::to_string(info.st_size) + " of its " +
                  std::to_string(safe_bytes_) + " bytes while the job ran; run it again, and leave the file alone");
}

Status FileWriter::flush_fragment() {
  int code = av_interleaved_write_frame(format_.get(), nullptr);
  // The first flush of an MP4 may write no more than its header.
  for (int flush = 0; flush < 2 && code >= 0; ++flush) code = av_write_frame(format_.get(), nullptr);
  if (resumed_ && !begun_ && code >= 0) LA_RETURN_IF_ERROR(write_without_header());
  avio_flush(io_.get());
  if (code < 0 || io_->error < 0) return write_failed(code < 0 ? code : io_->error);
  return {};
}

// The first fragment of a resumed file: what is before it in memory is the header that the file has.
Status FileWriter::write_without_header() {
  uint8_t* bytes = nullptr;
  const int size = avio_close_dyn_buf(format_->pb, &bytes);
  format_->pb = io_.get();
  const std::string whole(reinterpret_cast<const char*>(bytes), static_cast<size_t>(std::max(size, 0)));
  av_free(bytes);
  LA_RETURN_IF_ERROR(claim_.cut(position_.bytes, position_.head));
  cut_ = true;
  if (avio_seek(io_.get(), position_.bytes, SEEK_SET) < 0) return write_failed(AVERROR(EIO));
  for (const Mp4Box& box : boxes_in(whole, 0)) {
    if (box.name != "moof") continue;
    const auto at = static_cast<size_t>(box.offset);
    avio_write(io_.get(), reinterpret_cast<const uint8_t*>(whole.data()) + at, static_cast<int>(whole.size() - at));
    break;
  }
  return {};
}

// The file's head, which a position has, and its name.
Status FileWriter::make_durable() {
  if (position_.head.empty()) {
    Mp4Box box;
    auto reader = [this](int64_t from, int64_t count) { return read_text_at(file_.fd, uint64_t(from), size_t(count)); };
    int64_t at = 0;
    while (read_box(reader, at, avio_tell(io_.get()), box) && box.name != "moof") at += box.size;
    position_.head = read_text_at(file_.fd, 0, size_t(at));
  }
  if (sync_file(file_.fd) != 0) return write_failed(AVERROR(errno));
  return sync_folder(folder_of(claim_.place())) ? Status() : write_failed(AVERROR(errno));
}

Expected<FilePosition> FileWriter::position() const {
  if (!options_.resumable) return VideoWriter::position();
  FilePosition position = position_;
  position.encoder = encoder();
  position.encoder_threads = options_.threads;
  return position;
}

Status FileWriter::encode(const AVFrame* frame) {
  if (encoder_ == nullptr) return out_of_memory(path_ + ": the video encoder is gone; close other programs");
  if (int code = avcodec_send_frame(encoder_.get(), frame); code < 0)
    return io_error(path_ + ": the video encoder failed (" + ffmpeg_error(code) +
                    "); take another `size`, or close other programs");
  return take_packets(*encoder_, *packet_, [this](AVPacket& packet) { return put(packet, 0, encoder_->time_base); });
}

PacketTaker FileWriter::audio_sink() {
  return [this](AVPacket& packet) { return put(packet, 1, sound_->encoder().time_base); };
}

Status FileWriter::put(AVPacket& packet, int stream, AVRational time_base) {
  if (packet.duration == 0 && stream == 0) packet.duration = 1;
  packet.stream_index = stream;
  // A muxer that begins inside a file takes a track's time from its packets, where the file's begins with the lead-in.
  if (resumed_ && stream == 1) {
    packet.pts += sound_->encoder().initial_padding;
    packet.dts += sound_->encoder().initial_padding;
  }
  av_packet_rescale_ts(&packet, time_base, format_->streams[stream]->time_base);
  int code = av_interleaved_write_frame(format_.get(), &packet);
  if (code < 0 || format_->pb->error < 0) return write_failed(code < 0 ? code : format_->pb->error);
  return {};
}

Status FileWriter::write_failed(int code) const {
  const std::string left = safe_frames_ == 0 ? "nothing of it is kept; "
                                             : "the first " + std::to_string(safe_frames_) + " frames are safe in it; ";
  return io_error(path_ + ": writing failed (" + ffmpeg_error(code) + "); " + left +
                  errno_advice(AVUNERROR(code), "make room, or choose another place"));
}

}  // namespace liveavatar
