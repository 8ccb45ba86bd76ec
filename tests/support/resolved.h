// Jobs for tests, from options and files to what runs.
#pragma once

#include <memory>

#include "pipeline/engine.h"

namespace liveavatar {

inline Expected<ResolvedJob> resolve_job(const EngineOptions& options, const GenerateRequest& job) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(options));
  return resolve(resolve_options(*checkpoint), job);
}

// The numbers of a job, as it says them.
inline Expected<JobShape> asked_shape(const EngineOptions& options, const GenerateRequest& job) {
  LA_ASSIGN_OR_RETURN(ResolvedJob resolved, resolve_job(options, job));
  return resolved.asked;
}

inline Expected<std::unique_ptr<Models>> load_models(const EngineOptions& options, DeviceSource* device = nullptr) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(options));
  return load_models(std::move(checkpoint), device);
}

// A whole job on loaded models.
inline Status run_job(Models& models, const GenerateRequest& job, const RunCalls& calls) {
  LA_ASSIGN_OR_RETURN(ResolvedJob resolved, resolve(resolve_options(*models.checkpoint), job));
  LA_RETURN_IF_ERROR(hear(resolved));
  return run_job(models, resolved, calls);
}

}  // namespace liveavatar
