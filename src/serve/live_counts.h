// What every live session adds to the metrics, whatever carries it.
#pragma once

#include "liveavatar/live.h"
#include "serve/metrics.h"

namespace liveavatar::serve {

// Of one session; on its thread.
class LiveCounts {
 public:
  explicit LiveCounts(Metrics& metrics) : metrics_(metrics) {}
  void add(const LiveChunk& chunk);

 private:
  Metrics& metrics_;
  int64_t gaps_ = 0;
};

}  // namespace liveavatar::serve
