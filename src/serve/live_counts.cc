#include "serve/live_counts.h"

#include <utility>

namespace liveavatar::serve {

void LiveCounts::add(const LiveChunk& chunk) {
  constexpr double kLate = 0.02;  // seconds
  metrics_.frames(Metrics::Frames::kLive, chunk.frames);
  metrics_.stage(Metrics::Stage::kDecode, chunk.times.decode_seconds);
  if (chunk.late_seconds > kLate) metrics_.late_chunk();
  if (chunk.gaps > gaps_) metrics_.gaps(chunk.gaps - std::exchange(gaps_, chunk.gaps));
  if (chunk.first_frame % 12 != 0) return;
  metrics_.stage(Metrics::Stage::kHear, chunk.times.hear_seconds);
  metrics_.stage(Metrics::Stage::kSample, chunk.times.sample_seconds);
}

}  // namespace liveavatar::serve
