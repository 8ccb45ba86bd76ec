// How the Python original spends a card's memory when several share the work, beside what our engine needs: a model of
// published figures (docs/plan.md says what is known and what is fitted).
#pragma once

#include <string>
#include <vector>

#include "plan/memory_plan.h"

namespace liveavatar {

struct OriginalJob {
  int64_t width = 0, height = 0, clips = 0;
  bool online_decode = false;
  int64_t infer_frames = 32;  // what the scripts of its users say
  int64_t cards = 4;
};

enum class OriginalFit { kFits, kMarginal, kOutOfMemory };
const char* original_fit_name(OriginalFit fit);  // "fits", "marginal", "OOM"

// Bytes of the fullest card.
struct OriginalPlan {
  size_t shard_bytes = 0;    // its part of the video model
  size_t unshard_bytes = 0;  // whole copies of the layer that runs and of the next
  size_t kv_bytes = 0;       // ring of the one step it runs, and the sink
  size_t activations_bytes = 0;
  size_t kept_bytes = 0;  // the whole voice's features; without online decode latents and frames of the whole job
  size_t peak_bytes() const;
};
Expected<OriginalPlan> plan_like_original(const ModelShapes& shapes, const OriginalJob& job);

// Its allocator needs some room to itself: close to the limit a run may or may not end.
OriginalFit judge_original(size_t peak_bytes, size_t usable_bytes);

// The published rows, 4 cards of 24 GB with 22.15 GB usable.
struct PublishedRow {
  OriginalJob job;
  double peak_gb = 0;
  OriginalFit plan_report = OriginalFit::kFits;
};
constexpr size_t kUsable24Bytes = 22'150'000'000;
std::vector<PublishedRow> published_rows();

}  // namespace liveavatar
