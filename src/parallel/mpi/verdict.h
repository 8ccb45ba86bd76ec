// What the threads of a rank share about its group: the failure, and who waits for what.
#pragma once

#include <atomic>
#include <list>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "core/status.h"
#include "parallel/group.h"
#include "parallel/mpi/mpi_calls.h"

namespace liveavatar::mpi {

constexpr int kNobody = -1;

// The first failure; those after it are its consequences.
class Verdict {
 public:
  // gone: the rank whose process died, was stopped, hangs or cannot be reached.
  void fail(const Status& why, int gone = kNobody) {
    {
      std::lock_guard lock(mutex_);
      if (failed_) return;
      failure_ = why;
      gone_ = gone;
      at_ = Clock::now();
      failed_ = true;
    }
    failure_source_.request_stop();
  }
  std::stop_token failure_token() const { return failure_source_.get_token(); }
  bool failed() const { return failed_; }
  Status status() const {
    if (!failed_) return {};
    std::lock_guard lock(mutex_);
    return failure_;
  }
  int gone() const { return failed_ ? gone_.load() : kNobody; }
  double seconds_ago() const {
    std::lock_guard lock(mutex_);
    return seconds_since(at_);
  }

 private:
  std::stop_source failure_source_;
  mutable std::mutex mutex_;
  std::atomic<bool> failed_ = false;
  std::atomic<int> gone_ = kNobody;
  Status failure_;
  Clock::time_point at_;
};

// What the threads of this rank wait for at this moment.
class Waits {
 public:
  struct Wait {
    int rank = 0;
    Tag tag = Tag::kJob;
    bool sends = false;
  };
  // One wait, while it lives.
  class Entry {
   public:
    Entry(Waits& waits, const Wait& wait) : waits_(waits) {
      std::lock_guard lock(waits_.mutex_);
      at_ = waits_.now_.insert(waits_.now_.end(), {wait, Clock::now()});
    }
    ~Entry() {
      std::lock_guard lock(waits_.mutex_);
      waits_.now_.erase(at_);
    }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    Waits& waits_;
    std::list<std::pair<Wait, Clock::time_point>>::iterator at_;
  };

  // The one that takes longest, if it has taken so long.
  std::optional<Wait> longest(double at_least_s) const {
    std::lock_guard lock(mutex_);
    if (now_.empty() || seconds_since(now_.front().second) < at_least_s) return {};
    return now_.front().first;
  }

  // " while rank 0 waited for a block of rank 1", a wait for rank `other` before any other; if nobody waits
  // " while rank 0 was at "decode"", the stage, which may be null.
  std::string text(int own, int other, const char* stage) const {
    std::lock_guard lock(mutex_);
    if (now_.empty() && stage == nullptr) return "";
    if (now_.empty()) return " while rank " + std::to_string(own) + " was at \"" + stage + "\"";
    const Wait* wait = &now_.front().first;
    for (const auto& [each, since] : now_)
      if (each.rank == other) wait = &each;
    std::string text = " while rank " + std::to_string(own) + (wait->sends ? " waited to send " : " waited for ");
    text += tag_name(wait->tag);
    if (wait->rank != other) text += (wait->sends ? " to rank " : " of rank ") + std::to_string(wait->rank);
    return text;
  }

 private:
  mutable std::mutex mutex_;
  std::list<std::pair<Wait, Clock::time_point>> now_;  // in the order in which they began
};

}  // namespace liveavatar::mpi
