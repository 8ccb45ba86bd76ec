// Who has the device: live sessions or one job. The engine refuses both at once, so that this decides before it.
#pragma once

#include <condition_variable>
#include <mutex>

namespace liveavatar::serve {

// Any thread.
class DeviceTurn {
 public:
  explicit DeviceTurn(int max_sessions) : max_sessions_(max_sessions) {}

  enum class Live { kTaken, kFull, kJobRuns };
  Live take_live();  // does not wait; where taken, to be given back
  void give_back_live();
  // Waits until no session is there. false: closed.
  bool take_job();
  void give_back_job();
  // Nobody waits any more, and no job begins.
  void close();

  int sessions() const;
  int max_sessions() const { return max_sessions_; }
  bool job_runs() const;

 private:
  const int max_sessions_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int sessions_ = 0;
  bool job_ = false, closed_ = false;
};

}  // namespace liveavatar::serve
