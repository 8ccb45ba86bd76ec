// The public VideoFile: media/video_writer with the voice opened beside it, on a thread of its own.
#include "pipeline/video_file.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "core/boundary.h"
#include "core/status.h"
#include "liveavatar/liveavatar.h"
#include "media/audio.h"
#include "media/video_writer.h"
#include "media/voice_mix.h"
#include "session/check_field.h"
#include "session/speakers.h"

namespace liveavatar {
namespace {

// As many as the decoder makes at a time: they are encoded while it makes the next ones. In video_writer_bytes().
constexpr size_t kWaitingFrames = 4;

}  // namespace

ThreadedFile::ThreadedFile(std::unique_ptr<VideoWriter> writer, const JobInfo& info)
    : writer_(std::move(writer)),
      resumable_(writer_->position().ok()),
      encoder_name_(writer_->encoder()),
      width_(info.width),
      height_(info.height),
      frame_bytes_(static_cast<size_t>(info.height * info.width * 3)),
      ring_(kWaitingFrames * frame_bytes_),
      encoder_([this] { encode(); }) {}

ThreadedFile::~ThreadedFile() { join(); }

Status ThreadedFile::append(const VideoChunk& chunk) {
  return contained("the video file", [&] { return add(chunk); });
}

Status ThreadedFile::finish() {
  join();
  Status finished = contained("the video file", [this] { return writer_->finish(); });
  return status_.ok() ? finished : status_;
}

// What would read beyond the caller's frames, or wait for a thread that has ended.
Status ThreadedFile::check(const VideoChunk& chunk) const {
  if (ended_) return invalid_argument("the video file: frames after finish(); append them before it");
  if (chunk.frames < 0 || (chunk.rgb == nullptr && chunk.frames > 0))
    return invalid_argument("the video file: a chunk without frames; rgb and frames must be set");
  if (chunk.width == width_ && chunk.height == height_) return {};
  auto size = [](int64_t width, int64_t height) { return std::to_string(width) + "x" + std::to_string(height); };
  return invalid_argument("the video file: frames of " + size(chunk.width, chunk.height) + " for a video of " +
                          size(width_, height_) + "; create it with the JobInfo of the job that makes them");
}

Status ThreadedFile::add(const VideoChunk& chunk) {
  LA_RETURN_IF_ERROR(check(chunk));
  for (int64_t f = 0; f < chunk.frames; ++f) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_ < kWaitingFrames || !status_.ok(); });
    LA_RETURN_IF_ERROR(status_);
    uint8_t* place = ring_.data() + (first_ + waiting_) % kWaitingFrames * frame_bytes_;
    std::memcpy(place, chunk.rgb + static_cast<size_t>(f) * frame_bytes_, frame_bytes_);
    ++waiting_;
    changed_.notify_all();
  }
  return {};
}

void ThreadedFile::encode() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return waiting_ > 0 || ended_; });
    if (waiting_ == 0 || !status_.ok()) {
      encoded_all_ = true;
      changed_.notify_all();
      return;
    }
    const uint8_t* frame = ring_.data() + first_ * frame_bytes_;
    lock.unlock();
    Status written = contained("the video file", [&] { return writer_->write_frame(frame); });
    lock.lock();
    status_ = written;
    keep_position();
    first_ = (first_ + 1) % kWaitingFrames;
    --waiting_;
    changed_.notify_all();
  }
}

// With the lock.
void ThreadedFile::keep_position() {
  if (!resumable_ || !status_.ok()) return;
  Expected<FilePosition> now = writer_->position();
  const int64_t last = positions_.empty() ? 0 : positions_.back().frames;
  if (!now.ok() || now->frames <= last) return;
  positions_.push_back(*std::move(now));
  constexpr size_t kMostPositions = 8;  // a snapshot asks soon: two segments wait at most
  if (positions_.size() > kMostPositions) positions_.pop_front();
}

Expected<FilePosition> ThreadedFile::position(int64_t frames) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return !status_.ok() || encoded_all_ || is_stalled_ || (!positions_.empty() && positions_.back().frames >= frames);
  });
  LA_RETURN_IF_ERROR(status_);
  const auto found = std::find_if(positions_.begin(), positions_.end(),
                                  [frames](const FilePosition& position) { return position.frames == frames; });
  if (found == positions_.end() && is_stalled_) return io_error("the video waits for room on the disk");
  if (found == positions_.end())
    return unsupported("the video file has no segment that ends at frame " + std::to_string(frames));
  return *found;
}

void ThreadedFile::set_stalled(bool is_stalled) {
  {
    std::lock_guard lock(mutex_);
    is_stalled_ = is_stalled;
  }
  changed_.notify_all();
}

// Encodes what waits and ends the thread.
void ThreadedFile::join() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  if (encoder_.joinable()) encoder_.join();
}

Expected<std::unique_ptr<AudioStream>> open_voice(const std::string& audio, bool original_mix) {
  if (audio.empty()) return std::unique_ptr<AudioStream>();
  return open_mix(split_voices(audio), original_mix ? MixRule::kOriginal : MixRule::kFull);
}

namespace {

VideoWriterOptions writer_options(const JobInfo& info) {
  VideoWriterOptions options;
  options.width = info.width;
  options.height = info.height;
  options.fps = static_cast<int>(info.fps);
  options.encoder = info.video_encoder;
  options.card = info.video_card;
  return options;
}

// Output: a path, a claim on one, or a stream.
template <typename Output>
Expected<std::unique_ptr<ThreadedFile>> open_file(Output& output, const JobInfo& info, const std::string& audio,
                                                  bool original_mix) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioStream> voice, open_voice(audio, original_mix));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<VideoWriter> writer,
                      VideoWriter::open(output, writer_options(info), std::move(voice)));
  return std::make_unique<ThreadedFile>(std::move(writer), info);
}

}  // namespace

Status check_video_encoder(const JobInfo& info) {
  if (info.video_encoder != VideoEncoder::kNvenc) return {};  // auto has the CPU's to fall back on
  return check_video_encoder(writer_options(info));
}

Expected<std::unique_ptr<ThreadedFile>> create_video(OutputClaim& output, const JobInfo& info,
                                                     const GenerateRequest& request) {
  return contained("the video file", [&] { return open_file(output, info, request.audio, request.original_speakers); });
}

Expected<std::unique_ptr<ThreadedFile>> create_resumable_video(OutputClaim& output, const JobInfo& info,
                                                               const GenerateRequest& request,
                                                               const Continuation& continuation) {
  return contained("the video file", [&]() -> Expected<std::unique_ptr<ThreadedFile>> {
    VideoWriterOptions options = writer_options(info);
    options.resumable = true;
    options.mark = continuation.mark;
    const FilePosition* const from = continuation.from;
    LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioStream> voice, open_voice(request.audio, request.original_speakers));
    auto opened = from == nullptr ? VideoWriter::open(output, options, std::move(voice))
                                  : VideoWriter::resume(output, *from, options, std::move(voice));
    LA_ASSIGN_OR_RETURN(std::unique_ptr<VideoWriter> writer, std::move(opened));
    return std::make_unique<ThreadedFile>(std::move(writer), info);
  });
}

Expected<std::unique_ptr<ThreadedFile>> create_video(StreamOutput& output, const JobInfo& info,
                                                     const GenerateRequest& request) {
  return contained("the stream", [&] { return open_file(output, info, request.audio, request.original_speakers); });
}

VideoFile::VideoFile(std::unique_ptr<ThreadedFile> impl) : impl_(std::move(impl)) {}
VideoFile::~VideoFile() = default;

Expected<std::unique_ptr<VideoFile>> VideoFile::create(const std::string& path, const JobInfo& info,
                                                       const std::string& audio, bool original_mix) {
  return contained("the video file", [&]() -> Expected<std::unique_ptr<VideoFile>> {
    LA_RETURN_IF_ERROR(check_path("the video file", path));
    LA_RETURN_IF_ERROR(check_choice("`video_encoder`", info.video_encoder, VideoEncoder::kNvenc));
    LA_ASSIGN_OR_RETURN(std::unique_ptr<ThreadedFile> file, open_file(path, info, audio, original_mix));
    return std::unique_ptr<VideoFile>(new VideoFile(std::move(file)));
  });
}

Status VideoFile::append(const VideoChunk& chunk) { return impl_->append(chunk); }
std::string VideoFile::encoder() const { return impl_->encoder(); }
Status VideoFile::finish() { return impl_->finish(); }

}  // namespace liveavatar
