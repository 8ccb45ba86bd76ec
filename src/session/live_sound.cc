#include "session/live_sound.h"

#include <algorithm>
#include <string>

namespace liveavatar {

Status check_live_rate(int rate_hz) {
  constexpr int kLowest = 8000, kHighest = 48000;
  if (rate_hz >= kLowest && rate_hz <= kHighest && rate_hz % kFps == 0) return {};
  return invalid_argument("`sample_rate` " + std::to_string(rate_hz) + ": choose a multiple of " +
                          std::to_string(kFps) + " from " + std::to_string(kLowest) + " to " +
                          std::to_string(kHighest) + ", such as 16000, 24000, 44100 or 48000");
}

namespace {

constexpr int kFadesInSecond = 200;  // 5 ms

size_t queue_size(const LiveShape& s) { return static_cast<size_t>(s.queue_ms * s.rate_hz / 1000); }
int64_t samples_of_20_ms(const LiveShape& s) { return s.rate_hz / 50; }
int64_t look_ahead(const LiveShape& s) { return ceil_div(s.look_ahead_ms * s.rate_hz, int64_t{1000}); }

// Two blocks, and what a resampled sample reaches to on each side.
size_t line_size(const LiveShape& s, const SincResampler& resampler) {
  return static_cast<size_t>(2 * block_samples(s.rate_hz) + look_ahead(s) + 2 * resampler.reach());
}

}  // namespace

size_t LiveSound::bytes(const LiveShape& s) {
  const SincResampler resampler(s.rate_hz);
  return (queue_size(s) + line_size(s, resampler)) * sizeof(int16_t) + resampler.bytes();
}

LiveSound::LiveSound(const LiveShape& s)
    : rate_hz_(s.rate_hz),
      look_ahead_(look_ahead(s)),
      resampler_(s.rate_hz),
      queue_(queue_size(s)),
      drift_(samples_of_20_ms(s), look_ahead_),
      microphone_(s.microphone) {
  LA_CHECK(look_ahead_ + resampler_.reach() < block_samples(rate_hz_));
  line_.reserve(line_size(s, resampler_));
}

Status LiveSound::push(std::span<const int16_t> samples) {
  if (samples.empty()) return {};
  std::lock_guard lock(mutex_);
  const auto size = static_cast<int64_t>(queue_.size()), count = static_cast<int64_t>(samples.size());
  const int64_t queued = pushed_ - taken_;
  if (count > size - queued)
    return out_of_memory("push: " + std::to_string(count) + " samples, and the queue has room for " +
                         std::to_string(size - queued) + " of " + std::to_string(size) +
                         "; push less at a time, or open the session with a longer `queue_seconds`");
  if (speeches_.empty() || speeches_.back().end >= 0) speeches_.push_back({next_speech_++, pushed_, -1});
  for (int16_t sample : samples) queue_[static_cast<size_t>(pushed_++ % size)] = sample;
  return {};
}

void LiveSound::end_speech() {
  std::lock_guard lock(mutex_);
  if (!speeches_.empty() && speeches_.back().end < 0) speeches_.back().end = pushed_;
}

SpeechPosition LiveSound::interrupt() {
  std::lock_guard lock(mutex_);
  const int64_t end = placed_ ? block_end() : 0;
  const int64_t stop = pushed_until(end);
  while (!speeches_.empty() && speeches_.back().begin >= stop) speeches_.pop_back();
  if (!speeches_.empty() && (speeches_.back().end < 0 || speeches_.back().end > stop)) speeches_.back().end = stop;
  taken_ = pushed_;
  const int64_t fade = rate_hz_ / kFadesInSecond;
  fading_ = placed_ ? std::clamp<int64_t>(filled_ - end, 0, fade) : 0;  // in shift(): others read the line now
  drop_after(end);
  filled_ += fading_;
  speaking_ = false;
  return position_of(stop);
}

int64_t LiveSound::queued_samples() const {
  std::lock_guard lock(mutex_);
  return pushed_ - taken_;
}

void LiveSound::place(int64_t block) {
  std::lock_guard lock(mutex_);
  const int64_t first = block * block_samples(rate_hz_);
  LA_CHECK(first == (placed_ ? block_end() : 0));
  block_first_ = first;
  placed_ = true;
  shift();
  fill(block_end(), block_end() + look_ahead_ + resampler_.reach());
  voiced_ = std::any_of(runs_.begin(), runs_.end(), [&](const Run& run) {
    return run.first < block_end() && run.first + run.count > block_first_;
  });
}

// Forgets what is more than a block old.
void LiveSound::shift() {
  line_.resize(static_cast<size_t>(filled_ - line_first_));  // shorter after an interruption
  for (int64_t i = 0; i < fading_; ++i) {
    int16_t& sample = line_[line_.size() - static_cast<size_t>(i) - 1];
    sample = static_cast<int16_t>(sample * (i + 1) / (fading_ + 1));
  }
  fading_ = 0;
  const int64_t keep = std::max<int64_t>(0, block_first_ - block_samples(rate_hz_) - resampler_.reach());
  line_.erase(line_.begin(), line_.begin() + (keep - line_first_));
  line_first_ = keep;
  while (runs_.size() > 1 && runs_[1].first < block_first_) runs_.pop_front();
  const int64_t pushed = pushed_until(block_first_);
  while (speeches_.size() > 1 && speeches_[1].begin < pushed) speeches_.pop_front();
}

// Up to `end` all is decided, and up to `known` what was pushed. A speech that begins with less than that ends at
// `known`, so that what arrives in time follows without a gap.
void LiveSound::fill(int64_t end, int64_t known) {
  const int64_t wanted = known - filled_, count = std::min(wanted, pushed_ - taken_);
  const bool ended = speeches_.empty() || speeches_.back().end >= 0;
  if (count > 0 && count < wanted && !speaking_ && !ended) add_silence(known - count);
  if (!speaking_) drift_.restart();
  if (microphone_) {
    take_from_microphone(known);
  } else {
    take(count);
  }
  speaking_ = speaking_ || count > 0;
  if (filled_ < end) {
    if (speaking_ && !ended) ++gaps_;
    add_silence(end);
    speaking_ = false;
  }
  if (ended && taken_ == pushed_) speaking_ = false;
}

// As take(), for as much as there is. Where the clocks have run apart a pause becomes shorter, or longer by silence; a
// frame of it stays, so that no word loses its end.
void LiveSound::take_from_microphone(int64_t known) {
  if (speaking_) drift_.add(pushed_ - taken_ - (known - filled_));
  int64_t correction = drift_.correction();
  const int64_t wanted = correction;
  bool in_pause = false;
  while (filled_ < known && taken_ < pushed_) {
    const int64_t frame = std::min<int64_t>({rate_hz_ / 50, known - filled_, pushed_ - taken_});
    const bool pause = is_pause(frame);
    const bool within = pause && in_pause;
    in_pause = pause;
    if (within && correction >= frame) {
      taken_ += frame;
      correction -= frame;
      continue;
    }
    if (within && correction < 0) {
      add_silence(std::min(known, filled_ - correction));
      correction = 0;
    }
    take(std::min(frame, known - filled_));
  }
  if (correction != wanted) drift_.restart();
}

// Whether the next `count` samples of the queue are quiet.
bool LiveSound::is_pause(int64_t count) {
  const auto size = static_cast<int64_t>(queue_.size());
  double squares = 0;
  for (int64_t i = taken_; i < taken_ + count; ++i) {
    const double sample = queue_[static_cast<size_t>(i % size)];
    squares += sample * sample;
  }
  return drift_.is_pause(squares / double(count));
}

void LiveSound::take(int64_t count) {
  if (count == 0) return;
  const bool follows = !runs_.empty() && runs_.back().first + runs_.back().count == filled_ &&
                       runs_.back().pushed + runs_.back().count == taken_;
  if (!follows) runs_.push_back({filled_, 0, taken_});
  runs_.back().count += count;
  const auto size = static_cast<int64_t>(queue_.size());
  for (int64_t i = 0; i < count; ++i) line_.push_back(queue_[static_cast<size_t>(taken_++ % size)]);
  filled_ += count;
}

void LiveSound::add_silence(int64_t until) {
  line_.insert(line_.end(), static_cast<size_t>(until - filled_), 0);
  filled_ = until;
}

void LiveSound::drop_after(int64_t time) {
  filled_ = std::min(filled_, time);
  while (!runs_.empty() && runs_.back().first >= time) runs_.pop_back();
  if (!runs_.empty()) runs_.back().count = std::min(runs_.back().count, time - runs_.back().first);
}

int64_t LiveSound::pushed_until(int64_t time) const {
  for (auto run = runs_.rbegin(); run != runs_.rend(); ++run)
    if (run->first < time) return run->pushed + std::min(run->count, time - run->first);
  return 0;
}

SpeechPosition LiveSound::position_of(int64_t pushed) const {
  for (auto speech = speeches_.rbegin(); speech != speeches_.rend(); ++speech)
    if (speech->begin < pushed) return {speech->number, pushed - speech->begin, speech->end == pushed};
  return {};
}

std::span<const int16_t> LiveSound::samples() const {
  return std::span(line_).subspan(static_cast<size_t>(block_first_ - line_first_),
                                  static_cast<size_t>(block_samples(rate_hz_)));
}

SpeechPosition LiveSound::position(int64_t frame) const {
  std::lock_guard lock(mutex_);
  return position_of(pushed_until(block_first_ + (frame + 1) * frame_samples(rate_hz_)));
}

void LiveSound::resample(int64_t first, std::span<float> out) const { resampler_.run(line_, line_first_, first, out); }

}  // namespace liveavatar
