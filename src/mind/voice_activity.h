// Where somebody speaks in a stream of sound: energy above the noise, with a hangover.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

namespace liveavatar {

struct VoiceActivityLimits {
  double pause_s = 0.7;     // of silence ends an utterance
  double longest_s = 30;    // an utterance is cut there, and the next begins
  double shortest_s = 0.2;  // an utterance with less speech in it is dropped as a noise
  double lead_s = 0.3;      // of sound before speech was sure
};

// Frames of 20 ms. One is speech where it is louder than -50 dB and 12 dB louder than the quietest of the last seconds,
// which is the noise. One thread at a time; memory is bounded.
class VoiceActivity {
 public:
  explicit VoiceActivity(int rate_hz, VoiceActivityLimits limits = {});

  enum class Event { kNone, kBegins, kEnds, kDropped };
  // Sound of any length. on_event is called where an utterance begins or ends in it.
  template <typename OnEvent>
  void push(std::span<const int16_t> samples, const OnEvent& on_event) {
    for (const int16_t sample : samples) {
      frame_.push_back(sample);
      if (frame_.size() < frame_samples_) continue;
      const Event event = end_frame();
      frame_.clear();
      if (event != Event::kNone) on_event(event);
    }
  }
  // Somebody says that it is over: kEnds or kDropped where an utterance was open.
  Event end_now();
  bool is_speech() const { return is_speech_; }
  // Of the utterance that has ended; once.
  std::vector<int16_t> take();

 private:
  Event end_frame();
  bool is_loud(double mean_square);
  void begin();
  Event end();
  int64_t frames_of(double seconds) const;

  const size_t frame_samples_;
  const VoiceActivityLimits limits_;
  std::vector<int16_t> frame_;
  std::deque<int16_t> lead_;
  std::vector<int16_t> utterance_, done_;
  std::array<double, 8> quietest_;  // of spans of half a second; the last one is being filled
  int64_t frames_ = 0;
  std::array<bool, 10> loud_{};  // of the last frames
  bool is_speech_ = false;
  int64_t silent_frames_ = 0, loud_frames_ = 0;  // in a row; in the utterance
};

}  // namespace liveavatar
