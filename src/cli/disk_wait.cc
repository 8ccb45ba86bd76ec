#include "cli/disk_wait.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/resuming.h"
#include "cli/stop_signal.h"
#include "core/clock.h"
#include "core/size_text.h"
#include "core/status.h"
#include "core/text.h"

namespace liveavatar::cli {
namespace {

constexpr double kLeast_s = 1, kUsualMost_s = 3600;

}  // namespace

std::optional<double> seconds_of(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  const std::string unit = end;
  const double seconds = unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  const bool is_time = end != text.c_str() && number >= 0 && number <= 1e9 && seconds > 0;
  return is_time ? std::optional<double>(number * seconds) : std::nullopt;
}

void add_wait_disk(CLI::App& app, DiskWaitFlags& flags, const std::string& group) {
  app.add_option("--wait_disk", flags.most,
                 "Where the disk is full (or the quota is used up): wait so long for room, and go on; 90s, 10m, 2h,\n"
                 "or 0 to end at once (default: as long as the job has run by then, 1h at most). Ctrl-C ends it;\n"
                 "what was made is kept; docs/robustness.md")
      ->group(group);
}

Status check_wait_disk(const DiskWaitFlags& flags) {
  const bool is_known = flags.most.empty() || flags.most == "0" || seconds_of(flags.most);
  return is_known ? Status() : invalid_argument("--wait_disk " + flags.most + ": is no time; write 90s, 10m, 2h, or 0");
}

DiskWait::DiskWait(const DiskWaitFlags& flags, bool quiet)
    : most_(flags.most),
      quiet_(quiet),
      room_({[this](const DiskRoom::Full& of) { return full(of); }, [this](bool has_room) { no_more(has_room); }},
            StopSignal::token()) {}

void DiskWait::set_frames(int64_t done, int64_t all) {
  frames_ = all;
  frames_done_ = done;
}

// What the rest of the video takes, as what there is of it took.
std::string DiskWait::need_text(uint64_t bytes) const {
  const Resuming* const resuming = resuming_;
  const int64_t before = resuming == nullptr ? 0 : resuming->frames_before();
  const int64_t all = frames_, done = frames_done_ - before;
  const uint64_t written = room_.written_bytes();
  if (done <= 0 || frames_done_ >= all || written == 0) return mib(bytes) + " at least";
  const double rest = double(written) / double(done) * double(all - frames_done_);
  return "about " + mib(std::max(bytes, static_cast<uint64_t>(rest))) + " for the rest of it";
}

// Of a job that has just begun little is lost: it ends at once.
double DiskWait::usual_s() const {
  const double run_s = seconds_since(begin_);
  return run_s < kLeast_s ? 0 : std::min(kUsualMost_s, run_s);
}

double DiskWait::full(const DiskRoom::Full& full) {
  const double most_s = most_.empty() ? usual_s() : seconds_of(most_).value_or(0);
  full_at_ = std::chrono::steady_clock::now();
  stood_still_before_s_ = StopSignal::stood_still_s();
  if (most_s <= 0) return 0;
  if (Resuming* resuming = resuming_; resuming != nullptr) resuming->set_stalled(true);
  const std::string what = full.error == EDQUOT ? "the quota is used up" : "the disk is full";
  if (!quiet_)
    say_beside_progress("note: " + one_line(full.path) + ": " + what + ", and the job waits " + clock_text(most_s) +
                        " at most for room: " + need_text(full.bytes) + "; Ctrl-C ends it");
  return most_s;
}

void DiskWait::no_more(bool has_room) {
  waited_s_ = waited_s_ + seconds_since(full_at_) - (StopSignal::stood_still_s() - stood_still_before_s_);
  if (Resuming* resuming = resuming_; resuming != nullptr) resuming->set_stalled(false);
  if (has_room && !quiet_) say_beside_progress("note: there is room again; the job goes on");
}

}  // namespace liveavatar::cli
