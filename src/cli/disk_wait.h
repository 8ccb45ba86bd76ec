// `--wait_disk`: what `generate` says and does while its disk is full.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "core/disk_room.h"
#include "core/output_files.h"

namespace liveavatar::cli {

class Resuming;

// "90s", "10m" or "2h", in seconds; nothing: it is none.
std::optional<double> seconds_of(const std::string& text);

struct DiskWaitFlags {
  std::string most;  // empty: as long as the job has run, at most an hour
};
void add_wait_disk(CLI::App& app, DiskWaitFlags& flags, const std::string& group);
// kInvalidArgument where it is no time.
Status check_wait_disk(const DiskWaitFlags& flags);

// Of one video and its report.
class DiskWait {
 public:
  // The flags were checked. quiet: without the lines.
  DiskWait(const DiskWaitFlags& flags, bool quiet);
  DiskRoom& room() { return room_; }
  void set_resuming(Resuming* resuming) { resuming_ = resuming; }
  // How far the video is, to tell what the rest of it takes.
  void set_frames(int64_t done, int64_t all);
  // For how long it waited so far, beside StopSignal::stood_still_s().
  double waited_s() const { return waited_s_; }

 private:
  double full(const DiskRoom::Full& full);
  void no_more(bool has_room);
  double usual_s() const;
  std::string need_text(uint64_t bytes) const;

  const std::string most_;
  const bool quiet_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::atomic<int64_t> frames_done_ = 0, frames_ = 0;
  std::chrono::steady_clock::time_point full_at_{};  // and the next: of the thread that waits
  double stood_still_before_s_ = 0;
  std::atomic<double> waited_s_ = 0;
  std::atomic<Resuming*> resuming_ = nullptr;
  DiskRoom room_;
};

}  // namespace liveavatar::cli
