// Progress of a video: one updated line on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "liveavatar/liveavatar.h"

namespace liveavatar::cli {

// On stderr.
class LiveLine {
 public:
  explicit LiveLine(bool quiet);
  ~LiveLine() { finish(); }
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;

  bool quiet() const { return quiet_; }
  // Whether the last text was shown a moment ago: 0.1 s on a terminal, 5 s elsewhere.
  bool is_fresh() const;
  void show(const std::string& text, bool last = false);
  void finish();  // ends the line where one is open

 private:
  using Clock = std::chrono::steady_clock;
  bool quiet_, terminal_, open_ = false;
  Clock::time_point shown_at_{};
};

class ProgressLine {
 public:
  explicit ProgressLine(bool quiet) : line_(quiet) {}
  void update(const Progress& progress, int64_t fps);
  void finish() { line_.finish(); }

 private:
  using Clock = std::chrono::steady_clock;
  void show_stage(const Progress& progress);
  std::string frames_text(const Progress& progress, int64_t fps, bool last) const;

  LiveLine line_;
  Clock::time_point start_ = Clock::now(), first_frame_{};
  bool sampling_ = false;
  int64_t frames_at_first_ = 0;
  std::optional<Stage> stage_;
};

// Resident memory of this process, from /proc.
size_t resident_bytes();
std::string clock_text(double seconds);  // "1:02:03", "0:07"

}  // namespace liveavatar::cli
