#include "pipeline/delivery.h"

#include "core/status.h"

namespace liveavatar {

Status DirectDelivery::frames(const VideoChunk& block) {
  const bool go_on = on_chunk_(block);
  return go_on ? Status() : cancelled("stopped on request");
}

void DirectDelivery::progress(const Progress& progress) {
  if (on_progress_) on_progress_(progress);
}

Status RelayedDelivery::frames(const VideoChunk& block) {
  std::unique_lock lock(mutex_);
  if (!refused_) {
    events_.push_back({{}, &block});
    const int64_t mine = ++posted_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return refused_ || used_ >= mine; });
  }
  return refused_ ? cancelled("stopped on request") : Status();
}

void RelayedDelivery::progress(const Progress& progress) {
  std::lock_guard lock(mutex_);
  if (refused_) return;
  events_.push_back({progress, nullptr});
  changed_.notify_all();
}

void RelayedDelivery::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

void RelayedDelivery::refuse() {
  std::lock_guard lock(mutex_);
  refused_ = true;
  events_.clear();
  changed_.notify_all();
}

Status RelayedDelivery::serve_events(Delivery& to) {
  while (true) {
    Event event;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closed_ || !events_.empty(); });
      if (events_.empty()) return {};
      event = events_.front();
      events_.pop_front();
    }
    if (event.block == nullptr) {
      to.progress(event.progress);
      continue;
    }
    LA_RETURN_IF_ERROR(to.frames(*event.block));
    std::lock_guard lock(mutex_);
    ++used_;
    changed_.notify_all();
  }
}

Status RelayedDelivery::serve(Delivery& to) {
  try {
    Status status = serve_events(to);
    if (!status.ok()) refuse();
    return status;
  } catch (...) {
    refuse();
    throw;
  }
}

}  // namespace liveavatar
