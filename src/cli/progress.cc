#include "cli/progress.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "cli/stop_signal.h"
#include "core/clock.h"

namespace liveavatar::cli {

size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  size_t total_pages = 0, resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

std::string clock_text(double seconds) {
  int64_t s = static_cast<int64_t>(seconds + 0.5);
  char text[48];
  if (s >= 3600) {
    std::snprintf(text, sizeof(text), "%ld:%02ld:%02ld", long(s / 3600), long(s / 60 % 60), long(s % 60));
  } else {
    std::snprintf(text, sizeof(text), "%ld:%02ld", long(s / 60), long(s % 60));
  }
  return text;
}

LiveLine::LiveLine(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}

bool LiveLine::is_fresh() const {
  return std::chrono::duration<double>(Clock::now() - shown_at_).count() < (terminal_ ? 0.1 : 5.0);
}

void LiveLine::show(const std::string& text, bool last) {
  if (quiet_) return;
  shown_at_ = Clock::now();
  open_ = terminal_ && !last;
  std::fprintf(stderr, "%s%s%s", terminal_ ? "\r\033[K" : "", text.c_str(), open_ ? "" : "\n");
  std::fflush(stderr);
  StopSignal::set_line_is_open(open_);
}

void LiveLine::finish() {
  StopSignal::set_line_is_open(false);
  if (open_) std::fputc('\n', stderr);
  open_ = false;
}

// The open line is shown again with what comes next.
void say_beside_progress(const std::string& text) {
  std::fprintf(stderr, "%s%s\n", StopSignal::line_is_open() ? "\r\033[K" : "", text.c_str());
}

void ProgressLine::update(const Progress& p, int64_t fps, double idle_s) {
  if (!idle_before_s_) idle_before_s_ = idle_s;
  idle_s_ = idle_s - *idle_before_s_;
  if (line_.quiet()) return;
  if (p.frames_done == 0) return show_stage(p);
  if (!sampling_) {  // the rate counts from the first frames on: loading and conditioning would spoil the ETA
    sampling_ = true;
    first_frame_ = Clock::now();
    idle_at_first_s_ = idle_s_;
    frames_at_first_ = p.frames_done;
  }
  bool last = p.frames_done >= p.frames;
  if (last || !line_.is_fresh()) line_.show(frames_text(p, fps, last), last);
}

// Before the first frame: stages, and the blocks of a job that decodes at the end.
void ProgressLine::show_stage(const Progress& p) {
  if (p.stage == stage_ && line_.is_fresh()) return;
  stage_ = p.stage;
  const bool counting = p.stage == Stage::kSample && p.blocks > 0;
  line_.show(std::string(stage_name(p.stage)) +
             (counting ? " block " + std::to_string(p.block + 1) + "/" + std::to_string(p.blocks) : " ..."));
}

std::string ProgressLine::frames_text(const Progress& p, int64_t fps, bool last) const {
  double elapsed = seconds_since(first_frame_) - (idle_s_ - idle_at_first_s_);
  double rate = elapsed > 0 ? double(p.frames_done - frames_at_first_) / elapsed : 0;
  if (rate <= 0 || last) rate = double(p.frames_done) / (seconds_since(start_) - idle_s_);
  char bar[21] = "....................";
  for (int64_t i = 0; i < 20 * p.frames_done / p.frames; ++i) bar[i] = '#';
  char text[220];
  std::snprintf(text, sizeof(text), "[%s] block %ld/%ld  video %s of %s  %.1f frames/s  ETA %s  %zu MiB", bar,
                long(p.block + 1), long(p.blocks), clock_text(double(p.frames_done) / double(fps)).c_str(),
                clock_text(double(p.frames) / double(fps)).c_str(), rate,
                clock_text(double(p.frames - p.frames_done) / rate).c_str(), resident_bytes() >> 20);
  return text;
}

}  // namespace liveavatar::cli
