// `liveavatar bench --synthetic`: benchmarks a model shape without a checkpoint. Weights, audio, prompt and portrait
// are random numbers; memory, time and disk reads are real.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "pipeline/synthetic_video.h"
#include "plan/resolve_shape.h"

namespace liveavatar {

struct BenchOptions {
  JobShape shape;  // shape, size, blocks, steps, schedule, device, dtype
  MemoryLimits limits;
  std::string paging_dir;        // where weights, keys and values go that do not fit; empty: they must fit
  bool keep = false;             // leave the paging file for the next run
  int64_t resident_layers = -1;  // -1: as many as fit
  int64_t resident_kv_caches = -1;
  uint64_t seed = 420;
  CheckFinite check_finite = CheckFinite::kBlock;
  int sessions = 1;  // videos side by side: a pass over the weights serves all, and each has a limit of its own
  std::function<void(const std::string& line)> say;  // optional: what is being done
  DeviceSource* device = nullptr;                    // instead of the card that shape.device names
  std::stop_token stop;                              // heard wherever it packs, loads or runs: kCancelled
};

struct BenchResult {
  JobShape shape;                                              // as resolved
  MemoryPlan plan;                                             // of one session
  size_t predicted_peak_bytes = 0;                             // of all
  size_t charged_peak_bytes = 0, host_charged_peak_bytes = 0;  // the latter beside a card
  double pack_seconds = 0, load_seconds = 0, prefill_seconds = 0, run_seconds = 0;
  uint64_t prefill_bytes_read = 0;
  PagingCounts weights, kv_caches;            // what moved while blocks were made
  int64_t ticks = 0;                          // of the schedule: each goes through all layers once
  bool direct = true;                         // past the page cache
  std::vector<SyntheticVideo::Block> blocks;  // of one session
};

// kOutOfMemory where the budget has no room, with what would have.
Expected<BenchResult> run_bench(const BenchOptions& options);

}  // namespace liveavatar
