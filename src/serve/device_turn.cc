#include "serve/device_turn.h"

namespace liveavatar::serve {

DeviceTurn::Live DeviceTurn::take_live() {
  std::lock_guard lock(mutex_);
  if (job_) return Live::kJobRuns;
  if (sessions_ >= max_sessions_) return Live::kFull;
  ++sessions_;
  return Live::kTaken;
}

void DeviceTurn::give_back_live() {
  std::lock_guard lock(mutex_);
  --sessions_;
  changed_.notify_all();
}

bool DeviceTurn::take_job() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return closed_ || (sessions_ == 0 && !job_); });
  if (closed_) return false;
  job_ = true;
  return true;
}

void DeviceTurn::give_back_job() {
  std::lock_guard lock(mutex_);
  job_ = false;
  changed_.notify_all();
}

void DeviceTurn::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

int DeviceTurn::sessions() const {
  std::lock_guard lock(mutex_);
  return sessions_;
}

bool DeviceTurn::job_runs() const {
  std::lock_guard lock(mutex_);
  return job_;
}

}  // namespace liveavatar::serve
