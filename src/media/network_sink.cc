#include "media/network_sink.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <string>
#include <utility>

namespace liveavatar {
namespace {

constexpr double kLasting = 10;  // seconds of video after which a connection counts as sound
constexpr double kCloseSeconds = 2;
// SRT's receiver holds what has come for the latency of the connection, and drops it when that is closed.
constexpr double kSrtLinger = 0.5;

// Ends early with a stop.
void wait_for(double seconds, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait_for(lock, stop, std::chrono::duration<double>(seconds), [] { return false; });
}

}  // namespace

Expected<std::unique_ptr<NetworkSink>> NetworkSink::connect(std::shared_ptr<Connector> connector,
                                                            const StreamPatience& patience,
                                                            const std::stop_token& stop) {
  std::unique_ptr<NetworkSink> sink(new NetworkSink(std::move(connector), patience, stop));
  LA_ASSIGN_OR_RETURN(sink->connection_, sink->connector_->open(patience.waits.connect_s, stop));
  return sink;
}

// What ended a wait: some protocols call the deadline an error of another kind.
int NetworkSink::or_late(int code) { return code < 0 && connection_->is_late() ? AVERROR_EXIT : code; }

int NetworkSink::begin_muxer() {
  const bool is_rtmp = address_.kind == StreamAddress::Kind::kRtmp;
  AVDictionary* settings = nullptr;
  av_dict_set(&settings, "avoid_negative_ts", "make_zero", 0);  // also after a break
  if (is_rtmp) av_dict_set(&settings, "flvflags", "no_duration_filesize", 0);
  connection_->allow(patience_.waits.write_s);
  return or_late(muxer_.open(is_rtmp ? "flv" : "mpegts", connection_->io(), encoders_, settings));
}

Status NetworkSink::begin(const StreamEncoders& encoders) {
  encoders_ = encoders;
  const int code = begin_muxer();
  if (code < 0) status_ = reopen(code);
  return status_;
}

Status NetworkSink::write(AVPacket& packet, int stream) {
  LA_RETURN_IF_ERROR(status_);
  const bool is_key = stream == kPictureStream && (packet.flags & AV_PKT_FLAG_KEY) != 0;
  needs_key_ = needs_key_ && !is_key;
  if (needs_key_) {
    av_packet_unref(&packet);
    return {};
  }
  const AVCodecContext& encoder = stream == kPictureStream ? *encoders_.picture : *encoders_.sound;
  const double time_s = double(packet.pts) * av_q2d(encoder.time_base);
  connection_->allow(patience_.waits.write_s);
  const int code = or_late(muxer_.write(packet, stream));
  if (code < 0) {
    status_ = reopen(code);
    return status_;
  }
  written_s_ = std::max(written_s_, time_s);
  if (written_s_ - reopened_at_s_ > kLasting) reopened_ = 0;
  return {};
}

Status NetworkSink::lost(int code) const {
  if (stop_.stop_requested()) return cancelled("stopped on request");
  char so_far[32];
  std::snprintf(so_far, sizeof(so_far), "%.1f s", written_s_);
  const std::string why = code == AVERROR_EXIT ? "nothing is taken any more" : stream_error(address_, code);
  return io_error(address_.shown + ": the connection was lost after " + so_far + " of the video (" + why +
                  "); look at the server, then run the job again");
}

// The first try at once, the others after 1, 2, 4, ... seconds.
Status NetworkSink::reopen(int code) {
  Status status = lost(code);
  double pause_s = 0;
  while (reopened_ < patience_.reopens && status.code() == ErrorCode::kIo) {
    ++reopened_;
    muxer_ = PacketMuxer();
    connection_.reset();
    if (pause_s > 0) wait_for(pause_s, stop_);
    pause_s = pause_s == 0 ? 1 : 2 * pause_s;
    auto opened = connector_->open(patience_.waits.connect_s, stop_);
    if (!opened.ok()) {
      if (opened.status().code() == ErrorCode::kCancelled) return opened.status();
      continue;
    }
    connection_ = *std::move(opened);
    code = begin_muxer();
    status = code < 0 ? lost(code) : Status();
  }
  needs_key_ = broken_ = true;
  reopened_at_s_ = written_s_;
  return status;
}

bool NetworkSink::was_broken() { return std::exchange(broken_, false); }

Status NetworkSink::finish() {
  LA_RETURN_IF_ERROR(status_);
  connection_->allow(kCloseSeconds);
  const int code = or_late(muxer_.finish());
  if (code < 0) return lost(code);
  if (address_.kind == StreamAddress::Kind::kSrt) wait_for(kSrtLinger, {});
  muxer_ = PacketMuxer();
  connection_.reset();
  return {};
}

}  // namespace liveavatar
