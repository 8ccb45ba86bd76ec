// What a client gets, on the session's thread.
#include <utility>

#include "serve/errors.h"
#include "serve/live_parts.h"
#include "serve/live_socket.h"

namespace liveavatar::serve {
namespace {

using Json = nlohmann::ordered_json;

PushStats push_stats(const PushCounts& counts) {
  return {counts.connected, counts.sent_frames, counts.dropped_frames, counts.connections};
}

}  // namespace

bool LiveSocket::send(bool is_text, std::string bytes) {
  std::shared_ptr<http::Socket> socket;
  {
    std::lock_guard lock(mutex_);
    socket = closed_ ? nullptr : socket_;
  }
  if (!socket || !sent_) return sent_ = false;
  const auto patience = std::chrono::milliseconds(static_cast<int64_t>(services_.limits.slow_reader_s * 1000));
  const auto sent = socket->send(message_of(is_text, std::move(bytes)), patience);
  if (sent == http::Socket::Sent::kTooSlow) {
    services_.metrics.slow_reader();
    socket->drop(kPolicy, "the client does not read");
  }
  sent_ = sent == http::Socket::Sent::kQueued;
  return sent_;
}

bool LiveSocket::send_all(const std::vector<std::string>& events) {
  for (const std::string& event : events)
    if (!send(true, event)) return false;
  return true;
}

// The first chunk says how large the video is.
Status LiveSocket::begin_output(const LiveChunk& chunk) {
  LA_ASSIGN_OR_RETURN(output_, open_live_output(format_, chunk, [this](std::string bytes) {
                        const Clock::time_point begin = Clock::now();
                        send(false, std::move(bytes));
                        stats_.send_seconds += seconds_since(begin);
                      }));
  Json started{{"type", "started"},
               {"format", format_ == LiveFormat::kRaw ? "raw" : "mp4"},
               {"width", chunk.width},
               {"height", chunk.height},
               {"fps", 25},
               {"sample_rate", chunk.sample_rate}};
  if (!output_->mime().empty()) started["mime"] = output_->mime();
  send(true, json_text(started));
  return {};
}

bool LiveSocket::send_chunk(const LiveChunk& chunk) {
  const Clock::time_point begin = Clock::now();
  const double sent_before = stats_.send_seconds;
  if (const Status written = output_->write(chunk); !written.ok()) {
    end(kInternal, 503, code_name(written.code()), written.message());
    return false;
  }
  const double send_seconds = stats_.send_seconds - sent_before;
  const double encode_seconds = seconds_since(begin) - send_seconds;
  stats_.decode_seconds += chunk.times.decode_seconds;
  stats_.encode_seconds += encode_seconds;
  services_.metrics.stage(Metrics::Stage::kEncode, encode_seconds);
  services_.metrics.stage(Metrics::Stage::kSend, send_seconds);
  return sent_;
}

// What the client says next is heard at once.
void LiveSocket::drop_stale_sound(const LiveChunk& chunk) {
  const double queued_s = double(chunk.queued_samples) / double(chunk.sample_rate);
  if (!microphone_ || !stale_sound_.is_stale(chunk.paused_seconds, queued_s)) return;
  std::lock_guard lock(mutex_);
  if (state_ == State::kRunning) interrupt();
}

bool LiveSocket::on_chunk(const LiveChunk& chunk) {
  if (!output_) {
    if (const Status begun = begin_output(chunk); !begun.ok()) {
      end(kPolicy, 503, code_name(begun.code()), begun.message());
      return false;
    }
  }
  counts_.add(chunk);
  if (push_) push_->offer(chunk);
  std::vector<std::string> events;
  {
    std::lock_guard lock(mutex_);
    events = playback_->begins(chunk);
  }
  if (!send_all(events) || !send_chunk(chunk)) return false;
  {
    std::lock_guard lock(mutex_);
    events = playback_->ends(chunk);
    std::vector<std::string> answered;
    if (voice_) answered = voice_->played(chunk.position);
    events.insert(events.end(), answered.begin(), answered.end());
  }
  const bool block_ends = (chunk.first_frame + chunk.frames) % 12 == 0;
  if (block_ends) {
    stats_.block = chunk.first_frame / 12;
    if (push_) stats_.push = push_stats(push_->counts());
    events.push_back(stats_event(chunk, stats_));
    stats_ = {};
  }
  if (!send_all(events)) return false;
  if (block_ends) drop_stale_sound(chunk);
  return true;
}

void LiveSocket::on_end(const Status& why) {
  if (why.code() == ErrorCode::kCancelled && !sent_) return;  // this side ended it
  end(why.code() == ErrorCode::kCancelled ? kGoingAway : kInternal, 503, code_name(why.code()), why.message());
}

}  // namespace liveavatar::serve
