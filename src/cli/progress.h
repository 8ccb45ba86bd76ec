// What a person watches while a video is made: one line that renews itself on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <string>

#include "liveavatar/liveavatar.h"

namespace liveavatar::cli {

class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  void update(const Progress& progress, int64_t fps);
  void finish();  // ends the line

 private:
  using Clock = std::chrono::steady_clock;
  void show(const std::string& text, bool last);

  bool quiet_, terminal_;
  Clock::time_point start_ = Clock::now(), first_frame_{}, last_shown_{};
  bool sampling_ = false, dirty_ = false;
  int64_t frames_at_first_ = 0;
  std::string stage_;
};

// Resident memory of this process, from /proc.
size_t resident_bytes();
std::string clock_text(double seconds);  // "1:02:03", "0:07"

}  // namespace liveavatar::cli
