#include "media/hls_sink.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "core/errno_text.h"
#include "core/folder.h"

namespace liveavatar {
namespace {

constexpr int kBufferBytes = 32768;
constexpr double kSegmentSeconds = 4;
// A segment ends with a keyframe's time, of which there is one a second.
constexpr const char* kHead =
    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:EVENT";

constexpr size_t kLeastDigits = 5, kEndingBytes = 3;  // of a segment's "-00000.ts"

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_plain_in_a_url(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.' ||
         c == '~';
}

// A playlist's lines are URLs, relative to its own.
std::string as_url(const std::string& name) {
  std::string url;
  for (const char c : name) {
    char escaped[4] = {c};
    if (!is_plain_in_a_url(c)) std::snprintf(escaped, sizeof(escaped), "%%%02X", static_cast<unsigned char>(c));
    url += escaped;
  }
  return url;
}

}  // namespace

int HlsSink::write_bytes(void* self, uint8_t* bytes, int count) {
  auto& sink = *static_cast<HlsSink*>(self);
  if (!sink.segment_) return AVERROR(EBADF);
  const int error = sink.claim_.roomy().write_all(sink.segment_->descriptor(), bytes, static_cast<size_t>(count));
  return error == 0 ? count : AVERROR(error);
}

std::string HlsSink::segment_name(int number) const {
  char ending[24];
  std::snprintf(ending, sizeof(ending), "-%05d.ts", number);
  return std::filesystem::path(claim_.path()).stem().string() + ending;
}

bool HlsSink::is_segment(const std::string& file, const std::string& playlist) {
  const std::string name = std::filesystem::path(file).filename().string();
  const std::string begin = std::filesystem::path(playlist).stem().string() + "-";
  if (name.size() < begin.size() + kLeastDigits + kEndingBytes) return false;
  const std::string number = name.substr(begin.size(), name.size() - begin.size() - kEndingBytes);
  const bool has_form =
      name.starts_with(begin) && name.ends_with(".ts") && std::all_of(number.begin(), number.end(), is_digit);
  std::error_code ignored;
  return has_form && std::filesystem::equivalent(folder_of(file), folder_of(playlist), ignored);
}

Status HlsSink::begin(const StreamEncoders& encoders) {
  encoders_ = encoders;
  playlist_ = kHead;
  auto* buffer = static_cast<uint8_t*>(av_malloc(kBufferBytes));
  if (buffer != nullptr) io_.reset(avio_alloc_context(buffer, kBufferBytes, 1, this, nullptr, write_bytes, nullptr));
  if (!io_) {
    av_free(buffer);
    return out_of_memory("no memory for a stream; close other programs");
  }
  LA_RETURN_IF_ERROR(begin_segment());
  const int code = muxer_.open("mpegts", io_.get(), encoders);
  return code < 0 ? failed(code) : Status();
}

Status HlsSink::begin_segment() {
  const std::string path = (folder_of(claim_.place()) / segment_name(segments_)).string();
  LA_ASSIGN_OR_RETURN(segment_, PendingFile::open(path, PendingFile::Busy::kRefuse, {}, claim_.roomy().room));
  if (segments_ > 0) av_opt_set(muxer_.format()->priv_data, "mpegts_flags", "resend_headers", 0);
  return {};
}

Status HlsSink::write(AVPacket& packet, int stream) {
  if (stream == kPictureStream) {
    const double time_s = double(packet.pts) * av_q2d(encoders_.picture->time_base);
    const bool is_key = (packet.flags & AV_PKT_FLAG_KEY) != 0;
    if (is_key && time_s - begin_s_ >= kSegmentSeconds) {
      if (const int code = muxer_.flush(); code < 0) return failed(code);
      LA_RETURN_IF_ERROR(end_segment(time_s));
      LA_RETURN_IF_ERROR(claim_.write(playlist_));
      LA_RETURN_IF_ERROR(begin_segment());
    }
    end_s_ = time_s + av_q2d(encoders_.picture->time_base);
  }
  const int code = muxer_.write(packet, stream);
  return code < 0 ? failed(code) : Status();
}

// The segment is in the playlist's text when it is on the disk.
Status HlsSink::end_segment(double time_s) {
  char line[64];
  std::snprintf(line, sizeof(line), "\n#EXTINF:%.3f,\n", time_s - begin_s_);
  const std::string entry = line + as_url(segment_name(segments_));
  LA_RETURN_IF_ERROR(segment_->commit());
  segment_.reset();
  playlist_ += entry;
  begin_s_ = time_s;
  ++segments_;
  return {};
}

Status HlsSink::finish() {
  if (!segment_) return {};
  if (const int code = muxer_.finish(); code < 0) return failed(code);
  LA_RETURN_IF_ERROR(end_segment(end_s_));
  LA_RETURN_IF_ERROR(claim_.write(playlist_ + "\n#EXT-X-ENDLIST"));
  LA_RETURN_IF_ERROR(check_segments());
  return claim_.check_name();
}

// What others removed is a hole in the video.
Status HlsSink::check_segments() const {
  const std::filesystem::path folder = folder_of(claim_.place());
  for (int i = 0; i < segments_; ++i) {
    const std::string name = segment_name(i);
    std::error_code unknown;
    const bool is_there = std::filesystem::exists(folder / name, unknown);
    if (!is_there && !unknown)
      return io_error(claim_.path() + ": its segment " + name + " was removed while the job ran; run it again");
  }
  return {};
}

Status HlsSink::failed(int code) const {
  char so_far[32];
  std::snprintf(so_far, sizeof(so_far), "%.1f s", begin_s_);
  return io_error(claim_.path() + ": writing failed (" + ffmpeg_error(code) + "); the first " + so_far +
                  " are safe in it; " + errno_advice(AVUNERROR(code), "make room, or choose another place"));
}

}  // namespace liveavatar
