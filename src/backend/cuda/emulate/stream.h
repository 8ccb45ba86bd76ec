// Streams and events of the emulated device. Work that was given to a stream runs when somebody waits for it, and no
// earlier than it must: what a host or another stream uses without waiting was not computed yet. With a seed, streams
// are run ahead of what is waited for, in an order that depends on it: what may happen at any time happens at a bad
// one.
//
// A stream has a clock that does not follow the host's: each piece of work takes the milliseconds that were named with
// it. A launch of the kernel `linear` takes 10, any other 1.
//
// Thread-safe: all of it under device_lock(), which whoever calls the rest of the emulation from several threads holds.
#pragma once

#include <deque>
#include <functional>
#include <mutex>

#include "backend/cuda/emulate/emulate.h"

namespace liveavatar::cuda::emulate {

std::recursive_mutex& device_lock();

extern uint32_t stream_seed;  // 0: all work as late as possible

// How far a stream has come: its first `count` pieces of work.
struct Point {
  Stream* stream = nullptr;
  uint64_t count = 0;
};

class Stream {
 public:
  Stream();
  ~Stream();  // drops what nobody waited for
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void add(std::function<void()> work, double milliseconds = 0);
  // What is added from now on comes behind that point.
  void wait_for(const Point& point);
  Point now();
  double clock_ms() const { return clock_ms_; }  // of the work that is done; to be read by work

 private:
  friend bool is_done(const Point& point);
  friend void run_until(const Point& point);
  friend void run_all();
  struct Work {
    std::function<void()> run;
    Point behind;
    double milliseconds = 0;
  };
  void run_next();
  static void run_others(Stream& waited_for);

  std::deque<Work> work_;
  uint64_t done_ = 0;
  double clock_ms_ = 0;
};

bool is_done(const Point& point);
// Runs what the point needs. A Fault of a kernel ends it; the work behind stays where it is.
void run_until(const Point& point);
void run_all();  // of every stream

}  // namespace liveavatar::cuda::emulate
