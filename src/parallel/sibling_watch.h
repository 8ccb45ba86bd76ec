// The ranks of this machine, seen from outside: while MPI begins and ends no message says that one of them is lost, and
// a call of MPI waits for it without an end.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "parallel/group.h"

namespace liveavatar {

// While it lives: if one of the launcher's processes here dies or is stopped for Options::silence_s, or all takes too
// long, the first rank that is left says so by Options::last_words, and the process ends with code 1, for which the
// launcher ends all.
class SiblingWatch {
 public:
  enum class Phase { kBegin, kEnd };
  // What is known at the end.
  struct Known {
    std::map<int, pid_t> ranks;  // other processes of this machine
    // The launcher has begun to end all. A rank that is gone without that was ready sooner.
    std::function<bool()> launcher_ends_all;
  };
  SiblingWatch(Phase phase, const Group::Options& options, const Known& known = {});
  ~SiblingWatch();
  // Waits until all others have called this too, or are gone: one that is stopped until then is seen.
  void leave_together();
  SiblingWatch(const SiblingWatch&) = delete;
  SiblingWatch& operator=(const SiblingWatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  struct Sibling {
    pid_t pid = 0;
    bool explains = false;  // announce_own_error()
    bool watches = false;   // it has one of these
    bool stopped = false, gone = false;
    Clock::time_point running;  // when it was last seen so
  };
  void run();
  void find();
  void look(Clock::duration gap);
  Status lost() const;
  bool speaks() const;
  [[noreturn]] void end(const Status& why);

  const Phase phase_;
  const Group::Options options_;
  const int rank_;
  const pid_t launcher_;
  const std::function<bool()> launcher_ends_all_;  // may be empty
  const Clock::time_point began_ = Clock::now();
  bool was_stopped_ = false;         // this process: the others have judged it, and each other
  std::map<int, Sibling> siblings_;  // by rank; of the thread alone
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

// Before MPI begins: this process ends and says why itself. The others see that, if it lives a moment longer.
void announce_own_error();

}  // namespace liveavatar
