// Events by ticket: a point in a stream's work is a number, and a few CUDA events serve any number of points.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "backend/cuda/device.h"
#include "backend/cuda/handles.h"

namespace liveavatar::cuda {

class EventQueue {
 public:
  explicit EventQueue(CudaDevice& device) : device_(device) {}

  Event record(void* stream);  // by one thread at a time
  void wait(Event event);      // by any thread

 private:
  struct Point {
    uint64_t ticket;
    EventHandle event;
  };
  EventHandle take_event();  // with mutex_ held

  CudaDevice& device_;
  std::mutex mutex_;
  std::deque<Point> points_;       // not known to be reached, in order
  std::vector<EventHandle> free_;  // of points that were reached
  uint64_t last_ticket_ = 0;
};

}  // namespace liveavatar::cuda
