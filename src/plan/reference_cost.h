// The reference cost model: memory of a card when the Python original splits a job over several. docs/plan.md says what
// is published and what is fitted.
#pragma once

#include <string>
#include <vector>

#include "plan/memory_plan.h"

namespace liveavatar {

struct ReferenceJob {
  int64_t width = 0, height = 0, clips = 0;
  bool online_decode = false;
  int64_t infer_frames = 32;  // as in its users' scripts
  int64_t cards = 4;
};

enum class ReferenceFit { kFits, kMarginal, kOutOfMemory };
const char* reference_fit_name(ReferenceFit fit);  // "fits", "marginal", "OOM"

// Bytes of the fullest card.
struct ReferencePlan {
  size_t shard_bytes = 0;    // its shard of the video model
  size_t unshard_bytes = 0;  // unsharded copies of the layer that runs and of the next
  size_t kv_bytes = 0;       // KV caches of the one step it runs, and the sink
  size_t activations_bytes = 0;
  size_t kept_bytes = 0;  // audio features of the job; without online decode all latents and frames too
  size_t peak_bytes() const;
};
Expected<ReferencePlan> plan_reference_cost(const ModelShapes& shapes, const ReferenceJob& job);

// Its allocator has overhead: close to the limit a run may or may not succeed.
ReferenceFit fit_of_reference(size_t peak_bytes, size_t usable_bytes);

// The published rows, 4 cards of 24 GB with 22.15 GB usable.
struct PublishedRow {
  ReferenceJob job;
  double peak_gb = 0;
  ReferenceFit fit = ReferenceFit::kFits;
};
constexpr size_t kUsable24Bytes = 22'150'000'000;
std::vector<PublishedRow> published_rows();

}  // namespace liveavatar
