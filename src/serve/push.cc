#include "serve/push.h"

#include <algorithm>
#include <utility>

#include "core/boundary.h"
#include "media/live_stream.h"

namespace liveavatar::serve {
namespace {

constexpr double kLongestPause = 30;  // seconds between two tries

double pause_after(int failures) { return failures <= 1 ? 0 : std::min(kLongestPause, double(1 << (failures - 2))); }

}  // namespace

Push::Push(PushCalls calls, std::shared_ptr<PushCounts> totals, std::shared_ptr<Push> previous)
    : calls_(std::move(calls)),
      totals_(std::move(totals)),
      previous_(std::move(previous)),
      thread_([this] { run(); }) {}

Push::~Push() {
  stop_.request_stop();
  thread_.join();
}

void Push::count(std::atomic<int64_t> PushCounts::*counter, int64_t number) {
  counts_.*counter += number;
  (*totals_).*counter += number;
}

void Push::set_connected(bool connected) { counts_.connected = totals_->connected = connected; }

std::unique_ptr<Push::Piece> Push::copy_of(const LiveChunk& chunk) {
  auto piece = std::make_unique<Piece>();
  piece->chunk = chunk;
  piece->rgb.assign(chunk.rgb, chunk.rgb + chunk.frames * chunk.height * chunk.width * 3);
  piece->audio.assign(chunk.audio, chunk.audio + chunk.samples);
  piece->chunk.rgb = piece->rgb.data();
  piece->chunk.audio = piece->audio.data();
  return piece;
}

void Push::add(std::unique_ptr<Piece> piece) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  if (waiting_.size() == kMostChunks) {
    count(&PushCounts::dropped_frames, waiting_.front()->chunk.frames);
    waiting_.pop_front();
    too_slow_ = true;
  }
  waiting_.push_back(std::move(piece));
  changed_.notify_all();
}

void Push::offer(const LiveChunk& chunk) noexcept {
  const Status added = contained("a push", [&] {
    add(copy_of(chunk));
    return Status();
  });
  if (!added.ok()) count(&PushCounts::dropped_frames, chunk.frames);
}

void Push::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

bool Push::is_closed() const {
  std::lock_guard lock(mutex_);
  return closed_;
}

// Null: there is none, and there will be none.
std::unique_ptr<Push::Piece> Push::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, stop_.get_token(), [this] { return closed_ || !waiting_.empty(); });
  if (waiting_.empty() || stop_.stop_requested()) return nullptr;
  std::unique_ptr<Piece> piece = std::move(waiting_.front());
  waiting_.pop_front();
  return piece;
}

// Two streams of one name at once would be refused.
void Push::wait_for_previous() {
  constexpr auto kStep = std::chrono::milliseconds(20);
  while (previous_ && !previous_->has_ended() && !stop_.stop_requested()) std::this_thread::sleep_for(kStep);
  previous_.reset();
}

void Push::run() {
  wait_for_previous();
  for (std::unique_ptr<Piece> piece = next(); piece; piece = next()) {
    const Status sent = contained("a push", [&] { return send(*piece); });
    if (sent.ok()) continue;
    count(&PushCounts::dropped_frames, piece->chunk.frames);
    fail(sent);
  }
  const Status ended = contained("a push", [this] { return stream_ ? stream_->finish() : Status(); });
  if (!ended.ok()) fail(ended);
  stream_.reset();
  set_connected(false);
  ended_ = true;
}

void Push::say_trouble(PushTrouble trouble, const Status& why) {
  if (calls_.on_trouble) calls_.on_trouble(trouble, why);
}

void Push::fail(const Status& why) {
  stream_.reset();
  set_connected(false);
  count(&PushCounts::failures, 1);
  ++failures_;
  const std::chrono::duration<double> pause(pause_after(failures_));
  retry_at_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(pause);
  if (!in_trouble_) say_trouble(PushTrouble::kLost, why);
  in_trouble_ = true;
}

Status Push::open(const LiveChunk& like) {
  LA_ASSIGN_OR_RETURN(stream_, calls_.open(like, stop_.get_token()));
  count(&PushCounts::connections, 1);
  set_connected(true);
  too_slow_ = false;  // what was dropped while it connected
  return {};
}

Status Push::send(const Piece& piece) {
  const LiveChunk& c = piece.chunk;
  const bool may_open = !is_closed() && Clock::now() >= retry_at_;
  if (!stream_ && !may_open) {
    count(&PushCounts::dropped_frames, c.frames);
    return {};
  }
  if (!stream_) LA_RETURN_IF_ERROR(open(c));
  if (too_slow_ && !said_slow_) {
    said_slow_ = true;
    say_trouble(PushTrouble::kSlow, io_error("the target does not take the stream as fast as it is made"));
  }
  LA_RETURN_IF_ERROR(stream_->write({c.first_frame, c.frames, c.rgb, c.audio, c.samples}));
  count(&PushCounts::sent_frames, c.frames);
  in_trouble_ = false;
  failures_ = 0;
  return {};
}

}  // namespace liveavatar::serve
