// The flags that say what to make: of `generate`, and of `plan`, which takes the same lines.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "core/status.h"
#include "liveavatar/liveavatar.h"

namespace liveavatar::cli {

struct JobFlags {
  GenerateRequest job;
  std::string fit = "cover", speakers = "fitted", pose_frames = "resampled";
  bool online_decode = false, no_online_decode = false;
};

void add_job_flags(CLI::App& app, JobFlags& flags);

// Applies the flags that are not fields of the job. kInvalidArgument if two contradict each other.
Status resolve_job(JobFlags& flags);

}  // namespace liveavatar::cli
