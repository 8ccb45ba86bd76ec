#include "cli/progress.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>

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

ProgressLine::ProgressLine(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}

void ProgressLine::update(const Progress& p, int64_t fps) {
  if (quiet_) return;
  Clock::time_point now = Clock::now();
  auto seconds_since = [now](Clock::time_point t) { return std::chrono::duration<double>(now - t).count(); };
  if (p.frames_done == 0) {  // before the first frame: stages, and the blocks of a job that decodes at the end
    bool quick = seconds_since(last_shown_) < (terminal_ ? 0.1 : 5.0);
    if (p.stage == stage_ && quick) return;
    stage_ = p.stage;
    last_shown_ = now;
    bool counting = p.stage == "sample" && p.blocks > 0;
    show(p.stage + (counting ? " block " + std::to_string(p.block + 1) + "/" + std::to_string(p.blocks) : " ..."),
         false);
    return;
  }
  if (!sampling_) {  // the rate counts from the first frames on: loading and conditioning would spoil the ETA
    sampling_ = true;
    first_frame_ = now;
    frames_at_first_ = p.frames_done;
  }
  bool last = p.frames_done >= p.frames;
  if (!last && seconds_since(last_shown_) < (terminal_ ? 0.1 : 5.0)) return;
  last_shown_ = now;
  double elapsed = seconds_since(first_frame_);
  double rate = elapsed > 0 ? double(p.frames_done - frames_at_first_) / elapsed : 0;
  if (rate <= 0 || last) rate = double(p.frames_done) / seconds_since(start_);
  char bar[21] = "....................";
  for (int64_t i = 0; i < 20 * p.frames_done / p.frames; ++i) bar[i] = '#';
  char text[220];
  std::snprintf(text, sizeof(text), "[%s] block %ld/%ld  video %s of %s  %.1f frames/s  ETA %s  %zu MiB", bar,
                long(p.block + 1), long(p.blocks), clock_text(double(p.frames_done) / double(fps)).c_str(),
                clock_text(double(p.frames) / double(fps)).c_str(), rate,
                clock_text(double(p.frames - p.frames_done) / rate).c_str(), resident_bytes() >> 20);
  show(text, last);
}

void ProgressLine::show(const std::string& text, bool last) {
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", text.c_str());
    return;
  }
  std::fprintf(stderr, "\r\033[K%s%s", text.c_str(), last ? "\n" : "");
  std::fflush(stderr);
  dirty_ = !last;
}

void ProgressLine::finish() {
  if (dirty_) std::fputc('\n', stderr);
  dirty_ = false;
}

}  // namespace liveavatar::cli
