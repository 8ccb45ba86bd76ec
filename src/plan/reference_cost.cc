#include "plan/reference_cost.h"

#include "models/s2v_dit/weights.h"
#include "models/wan_vae/config.h"
#include "ops/make_backend.h"

namespace liveavatar {
namespace {

constexpr DType kBf16 = DType::kBF16;

// Weights of the video model as in a checkpoint: the reference backend packs nothing.
Expected<size_t> dit_bytes(const DitConfig& config) {
  Budget budget{Budget::DryRun()};
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, make_backend("reference", {.threads = 1}));
  DitWeights weights;
  {
    WeightSizer loader(*backend, budget, MemoryCategory::kWeights, kBf16);
    LA_ASSIGN_OR_RETURN(weights, load_dit_weights(config, loader));
  }
  return budget.used_bytes();
}

size_t kv_bytes(const DitConfig& config, const DitGeometry& geometry) {
  Arena dry_run;
  LayerCache(config, geometry.kv_cache_tokens(), kBf16, dry_run);
  LayerCache(config, geometry.sink_tokens(), kBf16, dry_run);
  return dry_run.used_bytes();
}

}  // namespace

const char* reference_fit_name(ReferenceFit fit) {
  constexpr const char* kNames[] = {"fits", "marginal", "OOM"};
  return kNames[static_cast<size_t>(fit)];
}

size_t ReferencePlan::peak_bytes() const {
  return shard_bytes + unshard_bytes + kv_bytes + activations_bytes + kept_bytes;
}

Expected<ReferencePlan> plan_reference_cost(const ModelShapes& shapes, const ReferenceJob& job) {
  // Its clip: (N + 3 + 73) / 4 - 19 latents, of which whole blocks of 3 are sampled.
  int64_t clip_latents = (job.infer_frames + 3 + kMotionFrames) / 4 - 19, made = clip_latents / 3 * 3;
  DitGeometry geometry{job.height / 8, job.width / 8, clip_latents, kBlockLatents};
  ReferencePlan plan;
  DitConfig bare = shapes.dit;  // a layer without its audio cross-attention
  bare.audio_inject_layers.clear();
  DitConfig one_less = bare;
  --one_less.layers;
  LA_ASSIGN_OR_RETURN(size_t weights, dit_bytes(shapes.dit));
  LA_ASSIGN_OR_RETURN(size_t with_one, dit_bytes(bare));
  LA_ASSIGN_OR_RETURN(size_t without_one, dit_bytes(one_less));
  plan.shard_bytes = weights / static_cast<size_t>(job.cards);
  plan.unshard_bytes = 2 * (with_one - without_one);
  plan.kv_bytes = kv_bytes(shapes.dit, geometry);
  Arena activations;
  DitActivations(shapes.dit, geometry, kBf16, activations);
  plan.activations_bytes = activations.used_bytes();
  const DitConfig& c = shapes.dit;
  constexpr int64_t kBf16Bytes = 2;
  int64_t kept = job.clips * job.infer_frames * c.audio_layers * c.audio_dim * kBf16Bytes;
  if (!job.online_decode) {
    kept += job.clips * made * c.channels * geometry.latent_height * geometry.latent_width * 4;
    kept += job.clips * made * kVaeFrames * 3 * job.height * job.width * 3 / 2;  // frames, 1.5 bytes a value: fitted
  }
  plan.kept_bytes = static_cast<size_t>(kept);
  return plan;
}

ReferenceFit fit_of_reference(size_t peak_bytes, size_t usable_bytes) {
  constexpr double kFails = 0.95, kRisky = 0.9;  // fitted to the published results
  double share = double(peak_bytes) / double(usable_bytes);
  if (share > kFails) return ReferenceFit::kOutOfMemory;
  return share > kRisky ? ReferenceFit::kMarginal : ReferenceFit::kFits;
}

std::vector<PublishedRow> published_rows() {
  return {{{688, 368, 100, false}, 21.8, ReferenceFit::kOutOfMemory},
          {{688, 368, 100, true}, 19.2, ReferenceFit::kFits},
          {{704, 384, 50, false}, 20.5, ReferenceFit::kMarginal},
          {{704, 384, 50, true}, 18.7, ReferenceFit::kFits},
          {{384, 256, 1000, true}, 14.3, ReferenceFit::kFits}};
}

}  // namespace liveavatar
