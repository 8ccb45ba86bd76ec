#include "serve/speaker.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/boundary.h"

namespace liveavatar::serve {

Speaker::Speaker(std::shared_ptr<Synthesizer> voice, int sample_rate, Calls calls)
    : voice_(std::move(voice)), sample_rate_(sample_rate), calls_(std::move(calls)) {}

Status Speaker::say(Text text) {
  return contained("say", [&]() -> Status {
    std::lock_guard lock(mutex_);
    if (ended_) return cancelled("the session has ended");
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    texts_.push_back(std::move(text));
    changed_.notify_all();
    return {};
  });
}

void Speaker::cancel() {
  std::stop_source stopped;  // the new one
  std::deque<Text> dropped;  // ends without the lock
  {
    std::lock_guard lock(mutex_);
    std::swap(stopped, stop_);
    dropped.swap(texts_);
  }
  stopped.request_stop();
}

void Speaker::end() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  cancel();
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Speaker::is_busy() const {
  std::lock_guard lock(mutex_);
  return speaks_ || !texts_.empty();
}

size_t Speaker::waiting() const {
  std::lock_guard lock(mutex_);
  return texts_.size();
}

void Speaker::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return ended_ || !texts_.empty(); });
    if (ended_) return;
    const Text text = std::move(texts_.front());
    texts_.pop_front();
    const std::stop_token stop = stop_.get_token();
    speaks_ = true;
    lock.unlock();
    take(text, stop);
    lock.lock();
  }
}

// on_end is called whatever was thrown before it.
void Speaker::take(const Text& text, const std::stop_token& stop) {
  Status spoken = contained("failed", [&] { return speak(text, stop); });
  const Status ended = contained("failed", [&]() -> Status {
    if (text.ends_speech && !stop.stop_requested()) calls_.end_speech(stop);
    return {};
  });
  if (spoken.ok()) spoken = ended;
  {
    std::lock_guard lock(mutex_);
    speaks_ = false;
  }
  static_cast<void>(contained("failed", [&]() -> Status {
    if (text.on_end) text.on_end(spoken);
    return {};
  }));
}

// A session that has no room plays meanwhile. false: it takes no more.
bool Speaker::push(std::span<const int16_t> samples, const Text& text, const std::stop_token& stop, Status& pushed) {
  constexpr auto kStep = std::chrono::milliseconds(40);
  const auto most = static_cast<size_t>(sample_rate_ / 5);
  while (!samples.empty()) {
    const auto piece = samples.subspan(0, std::min(most, samples.size()));
    const Expected<int64_t> speech = calls_.push(piece, stop);
    pushed = speech.status();
    if (speech.ok()) {
      samples = samples.subspan(piece.size());
      if (text.on_sound) text.on_sound(*speech, static_cast<int64_t>(piece.size()));
      continue;
    }
    if (pushed.code() != ErrorCode::kOutOfMemory) return false;
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, kStep, [] { return false; });
    if (stop.stop_requested()) return false;
  }
  return true;
}

Status Speaker::speak(const Text& text, const std::stop_token& stop) {
  if (text.text.text.empty()) return {};
  if (text.dropped.stop_requested()) return cancelled("the text was dropped");
  Status pushed;
  const PcmSink sink = [&](std::span<const int16_t> samples, int) { return push(samples, text, stop, pushed); };
  const Status spoken = speak_all(*voice_, text.text, sample_rate_, sink, stop);
  return pushed.ok() || pushed.code() == ErrorCode::kOutOfMemory ? spoken : pushed;
}

}  // namespace liveavatar::serve
