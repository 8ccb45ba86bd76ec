// What the threads of a rank share about its group: the failure, and who waits for what.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
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
  // gone: the rank whose process died, was stopped or cannot be reached.
  void fail(const Status& why, int gone = kNobody) {
    {
      std::lock_guard lock(mutex_);
      if (failed_) return;
      failure_ = why;
      gone_ = gone;
      at_ = Clock::now();
      failed_ = true;
    }
    std::lock_guard lock(callback_mutex_);
    if (callback_) callback_();
  }
  // As Group::on_failure.
  void on_failure(std::function<void()> callback) {
    std::lock_guard lock(callback_mutex_);
    if (failed_ && callback) callback();
    callback_ = failed_ ? nullptr : std::move(callback);
  }
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
  std::mutex callback_mutex_;
  std::function<void()> callback_;
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

  // " while rank 0 waited for a block of rank 1", a wait for rank `other` before any other; "" if nobody waits.
  std::string text(int own, int other) const {
    std::lock_guard lock(mutex_);
    if (now_.empty()) return "";
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
