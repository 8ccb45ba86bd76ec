// Benchmarks a live session: a voice pushed at real time as a microphone does, with pauses.
#pragma once

#include "liveavatar/live.h"

namespace liveavatar::cli {

struct LiveBenchOptions {
  EngineOptions engine;
  LiveRequest request;
  std::string audio;
  double seconds = 30;
};

// Of chunks with speech, seconds from the push of their first new sample until they were handed over; and what else a
// caller notices.
struct LiveBenchResult {
  int64_t width = 0, height = 0;
  double wall_seconds = 0;
  int64_t frames = 0, chunks = 0, late_chunks = 0, speeches = 0, gaps = 0;
  double paused_seconds = 0;
  double speech_p50 = 0, speech_p95 = 0;             // speech to frame
  double silence_p50 = 0, silence_p95 = 0;           // a speech's first push to its first chunk
  double hear_ms = 0, sample_ms = 0, decode_ms = 0;  // a block
};

// kCancelled after the stop of a StopSignal.
Expected<LiveBenchResult> run_live_bench(const LiveBenchOptions& options);

void print_table(const LiveBenchResult& result);
std::string to_json(const LiveBenchResult& result);

}  // namespace liveavatar::cli
