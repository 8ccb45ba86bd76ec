#include "session/microphone_drift.h"

#include <algorithm>

namespace liveavatar {

void MicrophoneDrift::add(int64_t lead) {
  leads_[static_cast<size_t>(count_ % std::ssize(leads_))] = lead;
  ++count_;
}

int64_t MicrophoneDrift::correction() const {
  if (count_ < std::ssize(leads_)) return 0;
  const auto [least, most] = std::minmax_element(leads_.begin(), leads_.end());
  if (*least >= frame_) return *least;
  return *most <= -look_ahead_ / 2 && *most < 0 ? *most : 0;
}

bool MicrophoneDrift::is_pause(double mean_square) {
  constexpr double kQuietest = 0.0025 * 32768, kPause = 0.03;  // as RunningLoudness
  constexpr double kForget = 0.995;                            // of a square, in 20 ms: 8 seconds to 1 / e^2
  loudest_ = std::max(mean_square, kForget * loudest_);
  return mean_square < std::max(kQuietest * kQuietest, kPause * kPause * loudest_);
}

}  // namespace liveavatar
