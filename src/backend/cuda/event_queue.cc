#include "backend/cuda/event_queue.h"

#include <algorithm>

namespace liveavatar::cuda {

EventHandle EventQueue::take_event() {
  Runtime& runtime = device_.runtime();
  while (!points_.empty() && runtime.is_done(points_.front().event.get())) {
    free_.push_back(std::move(points_.front().event));
    points_.pop_front();
  }
  if (!free_.empty()) {
    EventHandle event = std::move(free_.back());
    free_.pop_back();
    return event;
  }
  void* event = nullptr;
  device_.check(runtime.create_event(&event), "creating an event");
  return EventHandle(runtime, event);
}

Event EventQueue::record(void* stream) {
  const std::lock_guard lock(mutex_);
  EventHandle event = take_event();
  if (device_.failed()) return {};
  device_.check(device_.runtime().record(event.get(), stream), "recording an event");
  points_.push_back({++last_ticket_, std::move(event)});
  return {last_ticket_};
}

// An event that another thread reuses meanwhile is reached later than asked for, never earlier.
void EventQueue::wait(Event event) {
  void* handle = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto at =
        std::find_if(points_.begin(), points_.end(), [&](const Point& p) { return p.ticket == event.ticket; });
    if (at == points_.end()) return;
    handle = at->event.get();
  }
  device_.check(device_.runtime().wait(handle), "waiting for an event");
}

}  // namespace liveavatar::cuda
