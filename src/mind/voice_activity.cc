#include "mind/voice_activity.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace liveavatar {
namespace {

constexpr double kFrame_s = 0.02;
constexpr int64_t kSpanFrames = 25;
constexpr double kQuietest = 0.0032 * 32768;  // -50 dB
constexpr double kAboveNoise = 16;            // of a mean square: 12 dB
constexpr double kMostNoise = 0.02 * 32768;   // -34 dB: somebody who speaks all the time is no noise
constexpr int kSureFrames = 6;                // loud, of the last ten

}  // namespace

VoiceActivity::VoiceActivity(int rate_hz, VoiceActivityLimits limits)
    : frame_samples_(static_cast<size_t>(rate_hz / 50)), limits_(limits) {
  frame_.reserve(frame_samples_);
  quietest_.fill(std::numeric_limits<double>::max());
}

int64_t VoiceActivity::frames_of(double seconds) const { return std::llround(seconds / kFrame_s); }

bool VoiceActivity::is_loud(double mean_square) {
  if (frames_ % kSpanFrames == 0) {
    std::rotate(quietest_.begin(), quietest_.begin() + 1, quietest_.end());
    quietest_.back() = std::numeric_limits<double>::max();
  }
  ++frames_;
  // Digital silence, of a microphone that is being opened or muted, is no measure of a room.
  if (mean_square > 1) quietest_.back() = std::min(quietest_.back(), mean_square);
  const double noise = *std::min_element(quietest_.begin(), quietest_.end());
  const double known = noise == std::numeric_limits<double>::max() ? 0 : std::min(noise, kMostNoise * kMostNoise);
  return mean_square > std::max(kQuietest * kQuietest, kAboveNoise * known);
}

VoiceActivity::Event VoiceActivity::end_frame() {
  double sum = 0;
  for (const int16_t sample : frame_) sum += double(sample) * sample;
  const bool loud = is_loud(sum / double(frame_.size()));
  std::rotate(loud_.begin(), loud_.begin() + 1, loud_.end());
  loud_.back() = loud;
  if (!is_speech_) {
    lead_.insert(lead_.end(), frame_.begin(), frame_.end());
    const auto most = static_cast<size_t>(frames_of(limits_.lead_s) + std::ssize(loud_)) * frame_samples_;
    while (lead_.size() > most) lead_.pop_front();
    if (std::count(loud_.begin(), loud_.end(), true) < kSureFrames) return Event::kNone;
    begin();
    return Event::kBegins;
  }
  utterance_.insert(utterance_.end(), frame_.begin(), frame_.end());
  loud_frames_ += loud ? 1 : 0;
  silent_frames_ = loud ? 0 : silent_frames_ + 1;
  const bool is_long = std::ssize(utterance_) >= frames_of(limits_.longest_s) * std::ssize(frame_);
  return is_long || silent_frames_ >= frames_of(limits_.pause_s) ? end() : Event::kNone;
}

void VoiceActivity::begin() {
  is_speech_ = true;
  utterance_.assign(lead_.begin(), lead_.end());
  lead_.clear();
  loud_frames_ = std::count(loud_.begin(), loud_.end(), true);
  silent_frames_ = 0;
}

VoiceActivity::Event VoiceActivity::end() {
  is_speech_ = false;
  loud_.fill(false);
  done_ = std::exchange(utterance_, {});
  if (loud_frames_ >= frames_of(limits_.shortest_s)) return Event::kEnds;
  done_.clear();
  return Event::kDropped;
}

VoiceActivity::Event VoiceActivity::end_now() { return is_speech_ ? end() : Event::kNone; }

std::vector<int16_t> VoiceActivity::take() { return std::exchange(done_, {}); }

}  // namespace liveavatar
