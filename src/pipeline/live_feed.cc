#include "pipeline/live_feed.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <string>
#include <utility>

#include "core/boundary.h"
#include "models/wan_vae/config.h"

namespace liveavatar {

LiveFeed::LiveFeed(const JobShape& shape, const LiveCallbacks& callbacks, std::shared_ptr<LiveSignal> signal)
    : shape_(shape),
      callbacks_(callbacks),
      signal_(std::move(signal)),
      sound_(std::make_unique<LiveSound>(shape.live)) {}

Status LiveFeed::push(std::span<const int16_t> samples) {
  std::lock_guard lock(mutex_);
  return status_.ok() ? sound_->push(samples) : status_;
}

Status LiveFeed::push(std::span<const float> samples) {
  constexpr float kFullScale = 32767;
  std::vector<int16_t> converted(samples.size());
  for (size_t i = 0; i < samples.size(); ++i) {
    if (std::isnan(samples[i]))
      return invalid_argument("push: sample " + std::to_string(i) + " is not a number; give -1..1");
    converted[i] = static_cast<int16_t>(std::lrint(std::clamp(samples[i], -1.0f, 1.0f) * kFullScale));
  }
  return push(std::span<const int16_t>(converted));
}

Status LiveFeed::end_speech() {
  std::lock_guard lock(mutex_);
  if (status_.ok()) sound_->end_speech();
  return status_;
}

Expected<LivePosition> LiveFeed::interrupt() {
  std::lock_guard lock(mutex_);
  if (!status_.ok()) return status_;
  const SpeechPosition at = sound_->interrupt();
  return LivePosition{at.speech, at.samples, at.complete};
}

Expected<int64_t> LiveFeed::set_prompt(const std::string& prompt) {
  LiveChange wanted;
  wanted.prompt = prompt;
  return change(wanted);
}

Expected<int64_t> LiveFeed::set_portrait(const std::string& path) {
  LiveChange wanted;
  wanted.portrait = path;
  return change(wanted);
}

Expected<int64_t> LiveFeed::change(LiveChange& change) {
  if (!shape_.live.changes)
    return unsupported(std::string(change.call()) +
                       ": this session has no memory for changes; open it with allow_changes");
  std::future<Expected<int64_t>> done = change.done.get_future();
  std::lock_guard one_at_a_time(changing_);
  {
    std::lock_guard lock(mutex_);
    if (!status_.ok()) return status_;
    change_ = &change;
  }
  signal_->raise();
  return done.get();
}

LiveChange* LiveFeed::take_change() {
  std::lock_guard lock(mutex_);
  return std::exchange(change_, nullptr);
}

void LiveFeed::close() {
  stop_.request_stop();
  std::unique_lock lock(mutex_);
  closed_ = true;
  if (status_.ok()) status_ = cancelled("the live session is closed; open another");
  changed_.notify_all();
  const bool in_callback = delivering_ == std::this_thread::get_id();
  lock.unlock();
  signal_->raise();
  if (in_callback) return;
  lock.lock();
  changed_.wait(lock, [&] { return released_; });
}

void LiveFeed::open(LiveChunkMemory memory) {
  std::lock_guard lock(mutex_);
  thread_ = std::thread([this] { deliver(); });  // waits for the lock; where it does not start, the memory is not kept
  memory_ = std::move(memory);
  const int64_t samples = kVaeFrames * frame_samples(shape_.live.rate_hz);
  for (int64_t i = 0; i < shape_.live.chunks; ++i) {
    LiveSlot slot;
    slot.rgb = memory_.rgb.tensor.slice(i, 1).host<uint8_t>();
    slot.audio = reinterpret_cast<int16_t*>(memory_.audio.data()) + i * samples;
    slot.chunk.frames = kVaeFrames;
    slot.chunk.width = shape_.width;
    slot.chunk.height = shape_.height;
    slot.chunk.rgb = slot.rgb;
    slot.chunk.audio = slot.audio;
    slot.chunk.samples = samples;
    slot.chunk.sample_rate = shape_.live.rate_hz;
    slots_.push_back(slot);
  }
}

bool LiveFeed::has_room(int64_t chunks) {
  std::lock_guard lock(mutex_);
  return posted_ - taken_ + chunks <= std::ssize(slots_);
}

LiveSlot& LiveFeed::next() { return slots_[static_cast<size_t>(posted_ % std::ssize(slots_))]; }

void LiveFeed::post() {
  std::lock_guard lock(mutex_);
  ++posted_;
  changed_.notify_all();
}

void LiveFeed::end(const Status& why) {
  std::lock_guard lock(mutex_);
  ended_ = true;
  if (status_.ok()) status_ = why;
  refuse_change();  // a callback may wait for it
  changed_.notify_all();
}

// With the mutex held, after the session's end.
void LiveFeed::refuse_change() {
  LiveChange* change = std::exchange(change_, nullptr);
  if (change != nullptr) change->done.set_value(status_);
}

bool LiveFeed::finished() {
  std::lock_guard lock(mutex_);
  return finished_;
}

void LiveFeed::free_memory() {
  if (thread_.joinable()) thread_.join();
  std::lock_guard lock(mutex_);
  LA_CHECK(!status_.ok());
  refuse_change();
  sound_.reset();
  slots_.clear();
  memory_ = LiveChunkMemory();
}

void LiveFeed::release() {
  std::lock_guard lock(mutex_);
  released_ = true;
  changed_.notify_all();
}

Status LiveFeed::deliver_one(const LiveChunk& chunk) {
  try {
    return callbacks_.on_chunk(chunk) ? Status() : cancelled("live session: on_chunk ended it");
  } catch (const std::exception& e) {
    return cancelled(one_line(std::string("live session: on_chunk threw an exception: ") + e.what()));
  } catch (...) {
    return cancelled("live session: on_chunk threw an exception");
  }
}

void LiveFeed::call_end(const Status& why) {
  if (!callbacks_.on_end) return;
  try {
    callbacks_.on_end(why);
  } catch (...) {  // nobody is left to be told
  }
}

void LiveFeed::deliver() {
  std::unique_lock lock(mutex_);
  delivering_ = std::this_thread::get_id();
  for (;;) {
    changed_.wait(lock, [&] { return closed_ || ended_ || posted_ > taken_; });
    if (closed_ || posted_ == taken_) break;
    const LiveChunk& chunk = slots_[static_cast<size_t>(taken_ % std::ssize(slots_))].chunk;
    lock.unlock();
    const Status status = deliver_one(chunk);
    lock.lock();
    ++taken_;
    if (!status.ok() && status_.ok()) status_ = status;
    lock.unlock();
    signal_->raise();
    lock.lock();
    if (!status.ok()) break;
  }
  stop_.request_stop();
  const Status why = status_;
  const bool closed = closed_;
  lock.unlock();
  if (!closed) call_end(why);
  lock.lock();
  finished_ = true;
  delivering_ = {};  // another thread may get the same
  lock.unlock();
  signal_->raise();
}

}  // namespace liveavatar
