// A job worked out, once: its files are open and every number is decided. describe, plan, generate and bench read it.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "plan/resolve_shape.h"
#include "session/checkpoint.h"
#include "session/denoiser.h"
#include "session/job_files.h"

namespace liveavatar {

// Of a job, three months of the shortest clips: bytes and samples of a plan stay far from what a number holds.
constexpr int64_t kMostClips = int64_t{1} << 24;

struct ResolvedJob {
  GenerateRequest job;  // with its size
  JobFiles files;
  Sampling sampling;
  JobInfo info;
  MemoryLimits limits;
  JobShape asked;           // as the job says it
  JobShape shape;           // what is left open decided for the limits
  MemoryPlan plan;          // of `shape`
  bool past_voice = false;  // HearOptions::past_voice
};

// What a job is made of beside its files.
struct ResolveOptions {
  JobShape models;         // Checkpoint::shape(), or model_shape() of a model that is not here
  std::string video_size;  // of a job that names none
  MemoryLimits limits;
};
MemoryLimits limits_of(const EngineOptions& options);
ResolveOptions resolve_options(const Checkpoint& checkpoint);

// Opens the job's files; reads headers only. A voice is as long as its file says. Without a portrait the video has the
// sides of job.size, without a voice it is num_clip clips long, or one. Whether it fits: check_fits().
Expected<ResolvedJob> resolve(const ResolveOptions& options, const GenerateRequest& job);

// Reads the voices to their end, once: the numbers are exact then, and info.notes are there.
struct HearOptions {
  bool past_voice = false;  // the last clip is filled beyond the voice, as the original does
  std::stop_token stop;
};
Status hear(ResolvedJob& job, const HearOptions& options = {});

// Numbers that make no sense: kInvalidArgument, before any file is opened.
Status check_job(const GenerateRequest& job);

// kOutOfMemory if the job goes beyond the budget; the line says which stage, how much and the cheapest suggestion.
Status check_fits(const ResolvedJob& job);
// kOutOfMemory if loading alone goes beyond the options' budget: before a weight is read.
Status check_load(const Checkpoint& checkpoint);

// Before the models are loaded, never after: weights that fit stay where they are, and nothing is packed.
Status drop_idle_paging(EngineOptions& options, ResolvedJob& job);

}  // namespace liveavatar
