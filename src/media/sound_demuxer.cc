#include "media/sound_demuxer.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/boundary.h"
#include "media/ffmpeg.h"

namespace liveavatar {
namespace {

// Bytes without a packet: more than any header or block of Opus has. FFmpeg would keep 256 MiB of one element.
constexpr int64_t kMostBytesAtOnce = 1 << 20;

// Pieces that one thread puts in and another reads.
class PieceQueue {
 public:
  Status push(std::string_view bytes) {
    std::lock_guard lock(mutex_);
    if (waiting_ + bytes.size() > SoundDemuxer::kMostWaitingBytes)
      return out_of_memory("sound comes faster than it is decoded; send it at real time");
    waiting_ += bytes.size();
    items_.push_back({std::string(bytes), {}});
    changed_.notify_all();
    return {};
  }
  void then(std::function<void()> call) {
    std::lock_guard lock(mutex_);
    items_.push_back({{}, std::move(call)});
    changed_.notify_all();
  }
  void end() {
    std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  bool has_ended() {
    std::lock_guard lock(mutex_);
    return ended_;
  }
  // As an AVIOContext wants it. Runs the calls that come before the bytes.
  int read(uint8_t* to, int most) {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return ended_ || !items_.empty(); });
      if (ended_) return AVERROR_EXIT;
      Item& item = items_.front();
      if (item.call) {
        const std::function<void()> call = std::move(item.call);
        items_.pop_front();
        lock.unlock();
        // FFmpeg's frames lie below: nothing may be thrown through them.
        const Status called = contained("the sound", [&] {
          call();
          return Status();
        });
        lock.lock();
        if (!called.ok()) return AVERROR(ENOMEM);
        continue;
      }
      const size_t count = std::min(static_cast<size_t>(most), item.bytes.size() - at_);
      std::memcpy(to, item.bytes.data() + at_, count);
      at_ += count;
      if (at_ == item.bytes.size()) {
        waiting_ -= item.bytes.size();
        items_.pop_front();
        at_ = 0;
      }
      if (count > 0) return static_cast<int>(count);
    }
  }

 private:
  struct Item {
    std::string bytes;
    std::function<void()> call;
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;
  size_t at_ = 0, waiting_ = 0;  // bytes: of the first item that were read; of all items
  bool ended_ = false;
};

// Frames of any layout as s16 mono at one rate.
class MonoConverter {
 public:
  explicit MonoConverter(int rate_hz) : rate_hz_(rate_hz) {}
  Expected<std::span<const int16_t>> convert(const AVFrame& frame) {
    if (!resampler_) LA_RETURN_IF_ERROR(open(frame));
    samples_.resize(static_cast<size_t>(std::max(1, swr_get_out_samples(resampler_.get(), frame.nb_samples))));
    auto* out = reinterpret_cast<uint8_t*>(samples_.data());
    auto** in = const_cast<const uint8_t**>(frame.extended_data);
    const int made = swr_convert(resampler_.get(), &out, static_cast<int>(samples_.size()), in, frame.nb_samples);
    if (made < 0) return io_error("the sound could not be resampled (" + ffmpeg_error(made) + ")");
    return std::span<const int16_t>(samples_).first(static_cast<size_t>(made));
  }

 private:
  // The decoder keeps its rate and format, whatever packets say.
  Status open(const AVFrame& frame) {
    AVChannelLayout mono, from = frame.ch_layout;  // only read
    av_channel_layout_default(&mono, 1);
    SwrContext* resampler = nullptr;
    const int code = swr_alloc_set_opts2(&resampler, &mono, AV_SAMPLE_FMT_S16, rate_hz_, &from,
                                         static_cast<AVSampleFormat>(frame.format), frame.sample_rate, kQuiet, nullptr);
    resampler_.reset(resampler);
    if (code < 0 || swr_init(resampler) < 0)
      return unsupported("Opus cannot be resampled to " + std::to_string(rate_hz_) + " Hz by FFmpeg here");
    return {};
  }

  const int rate_hz_;
  Owned<SwrContext> resampler_;
  std::vector<int16_t> samples_;
};

class FfmpegSoundDemuxer final : public SoundDemuxer {
 public:
  FfmpegSoundDemuxer(std::string name, const AVInputFormat* container, int rate_hz, SoundCalls calls)
      : name_(std::move(name)), container_(container), converter_(rate_hz), calls_(std::move(calls)), thread_([this] {
          run();
        }) {}
  ~FfmpegSoundDemuxer() override {
    pieces_.end();
    thread_.join();
  }
  Status push(std::string_view bytes) override {
    return contained("the sound", [&] { return pieces_.push(bytes); });
  }
  void then(std::function<void()> call) override { pieces_.then(std::move(call)); }

 private:
  static int read(void* self, uint8_t* to, int most) {
    auto& demuxer = *static_cast<FfmpegSoundDemuxer*>(self);
    const int got = demuxer.pieces_.read(to, most);
    if (got < 0) return got;
    demuxer.since_packet_ += got;
    return demuxer.since_packet_ > kMostBytesAtOnce ? AVERROR_INVALIDDATA : got;
  }

  void run() {
    const Status ended = contained("the sound", [&] { return decode_all(); });
    const Status told = contained("the sound", [&] {
      if (!ended.ok() && ended.code() != ErrorCode::kCancelled) calls_.on_error(ended);
      return Status();
    });
    if (!told.ok()) return;
    uint8_t dropped[256];
    while (pieces_.read(dropped, sizeof(dropped)) >= 0) {  // the calls of then() still run
    }
  }

  Status failed(int code) {
    if (pieces_.has_ended()) return Status(ErrorCode::kCancelled, "ended");
    return corrupt("the sound is no Opus in " + name_ + " (" + ffmpeg_error(code) +
                   "); send what MediaRecorder gives from its first piece on");
  }

  Status open_container() {
    constexpr int kBufferBytes = 4096;
    const Status no_memory = out_of_memory("no memory for the sound's decoder");
    auto* buffer = static_cast<unsigned char*>(av_malloc(kBufferBytes));
    if (buffer == nullptr) return no_memory;
    io_.reset(avio_alloc_context(buffer, kBufferBytes, 0, this, &read, nullptr, nullptr));
    if (!io_) av_free(buffer);
    AVFormatContext* format = io_ ? avformat_alloc_context() : nullptr;
    if (format == nullptr) return no_memory;
    io_->seekable = 0;
    format->pb = io_.get();
    format->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_NOBUFFER;
    const int code = avformat_open_input(&format, nullptr, container_, nullptr);  // frees it where it fails
    if (code < 0) return failed(code);
    format_.reset(format);
    return {};
  }

  Status open_decoder() {
    for (unsigned i = 0; i < format_->nb_streams; ++i)
      if (format_->streams[i]->codecpar->codec_id == AV_CODEC_ID_OPUS) stream_ = static_cast<int>(i);
    if (stream_ < 0) return corrupt("the sound has no Opus; record with audio/webm;codecs=opus");
    decoder_.reset(avcodec_alloc_context3(avcodec_find_decoder(AV_CODEC_ID_OPUS)));
    packet_.reset(av_packet_alloc());
    frame_.reset(av_frame_alloc());
    if (!decoder_ || !packet_ || !frame_) return out_of_memory("no memory for the sound's decoder");
    decoder_->log_level_offset = kQuiet;
    int code = avcodec_parameters_to_context(decoder_.get(), format_->streams[stream_]->codecpar);
    if (code >= 0) code = avcodec_open2(decoder_.get(), nullptr, nullptr);
    return code < 0 ? failed(code) : Status();
  }

  Status decode_all() {
    LA_RETURN_IF_ERROR(open_container());
    LA_RETURN_IF_ERROR(open_decoder());
    for (;;) {
      const int code = av_read_frame(format_.get(), packet_.get());
      if (code < 0) return failed(code);
      since_packet_ = 0;
      if (packet_->stream_index == stream_) LA_RETURN_IF_ERROR(decode());
      av_packet_unref(packet_.get());
    }
  }

  // A damaged packet is a piece of silence, as for a player.
  Status decode() {
    avcodec_send_packet(decoder_.get(), packet_.get());
    while (avcodec_receive_frame(decoder_.get(), frame_.get()) == 0) {
      LA_ASSIGN_OR_RETURN(const std::span<const int16_t> samples, converter_.convert(*frame_));
      if (!samples.empty()) calls_.on_samples(samples);
    }
    return {};
  }

  const std::string name_;  // "webm"
  const AVInputFormat* const container_;
  PieceQueue pieces_;
  MonoConverter converter_;
  const SoundCalls calls_;
  int64_t since_packet_ = 0;  // bytes that were read since the last packet
  OwnedIo io_;
  Owned<AVFormatContext> format_;  // before `io_`, which it reads through
  Owned<AVCodecContext> decoder_;
  Owned<AVPacket> packet_;
  Owned<AVFrame> frame_;
  int stream_ = -1;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

Expected<std::unique_ptr<SoundDemuxer>> SoundDemuxer::open(const std::string& container, int sample_rate_hz,
                                                           SoundCalls calls) {
  if (container != "webm" && container != "ogg") return invalid_argument("sound comes in \"webm\" or \"ogg\"");
  const AVInputFormat* format = av_find_input_format(container == "webm" ? "matroska" : "ogg");
  if (format == nullptr || avcodec_find_decoder(AV_CODEC_ID_OPUS) == nullptr)
    return unsupported("FFmpeg here reads no Opus in " + container + "; send s16 samples");
  return contained("the sound", [&]() -> Expected<std::unique_ptr<SoundDemuxer>> {
    return std::unique_ptr<SoundDemuxer>(
        std::make_unique<FfmpegSoundDemuxer>(container, format, sample_rate_hz, std::move(calls)));
  });
}

}  // namespace liveavatar
