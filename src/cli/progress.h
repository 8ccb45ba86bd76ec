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

// A line of its own on stderr, where a line of progress may be open. Any thread.
void say_beside_progress(const std::string& text);

class ProgressLine {
 public:
  explicit ProgressLine(bool quiet) : line_(quiet) {}
  // idle_s: for how long nothing could be made so far, which says nothing of what is to come.
  void update(const Progress& progress, int64_t fps, double idle_s);
  void finish() { line_.finish(); }

 private:
  using Clock = std::chrono::steady_clock;
  void show_stage(const Progress& progress);
  std::string frames_text(const Progress& progress, int64_t fps, bool last) const;

  LiveLine line_;
  Clock::time_point start_ = Clock::now(), first_frame_{};
  double idle_s_ = 0, idle_at_first_s_ = 0;  // since start_, and up to first_frame_
  std::optional<double> idle_before_s_;      // of other jobs
  bool sampling_ = false;
  int64_t frames_at_first_ = 0;
  std::optional<Stage> stage_;
};

// Resident memory of this process, from /proc.
size_t resident_bytes();
std::string clock_text(double seconds);  // "1:02:03", "0:07"

}  // namespace liveavatar::cli
