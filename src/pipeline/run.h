// The run of a job: conditioning, denoising, decoding and delivery, block after block; a block that was delivered is
// forgotten.
#pragma once

#include <functional>
#include <span>
#include <stop_token>

#include "liveavatar/liveavatar.h"
#include "pipeline/rank_run.h"
#include "pipeline/resolve.h"
#include "session/models.h"

namespace liveavatar {

struct ResumePoint;  // pipeline/snapshots.h
class Snapshots;

// Where a run can be watched or steered: golden_check and tests. All optional.
struct RunHooks {
  std::function<void(int64_t block, std::span<float> noise)> noise;   // instead of seeded noise, [16, 3, h, w]
  std::function<void(int64_t block, const Tensor& latents)> latents;  // finished latents [16, 3, h, w] f32
  // "context", "ref_latent", "audio_features" (a block's), "pose_latents", "actor_masks", "frames"
  std::function<void(const char* name, const Tensor& value)> tensor;
  std::function<void(std::span<const int32_t> ids)> token_ids;
  AudioColumns* audio = nullptr;  // instead of the job's voices
  bool no_frames = false;         // blocks are sampled and not decoded: benchmarks
};

struct RunCalls {
  ChunkCallback on_chunk;                            // false: stop; kCancelled
  std::function<void(const Progress&)> on_progress;  // optional
  std::stop_token stop;                              // heard within a layer: kCancelled
  Group* ranks = nullptr;  // of ResolvedJob::placement; the others serve_video(). Null: the lead is alone
  std::vector<RankReport>* rank_reports = nullptr;  // of a finished video; optional
  Snapshots* snapshots = nullptr;                   // written as it runs; optional
  const ResumePoint* resume = nullptr;              // where it goes on; null: at its beginning
  Budget* budget = nullptr;  // of a session beside others: ResolvedJob::plan.session_bytes do. Null: the models'
  RunHooks hooks;
};

// Runs a whole job, which was heard, once; its models are these. With ranks this is the lead: a failure of any rank
// ends it, and its own ends the others. The callbacks are called on this thread; hooks, where decoding is beside
// sampling, on the threads that sample and decode. After an error the caller keeps the frames that it was given.
Status run_job(Models& models, ResolvedJob& job, const RunCalls& calls);

}  // namespace liveavatar
