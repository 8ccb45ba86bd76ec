// From the public options to the planner's request: opens what a job is made of, reads no weight.
#pragma once

#include "pipeline/job.h"
#include "plan/memory_plan.h"

namespace liveavatar {

// Opens picture, sound and the checkpoint's headers. The sound's length is what its file says.
Expected<PlanRequest> plan_request(const EngineOptions& options, const Job& job);

// The rest of a job: a video of `size` with these voices, masks, pose and sampling. Without a voice it is num_clip
// clips long, or one.
Status plan_job_beside_portrait(const Job& job, WorkingSize size, PlanRequest& request);

// kInvalidArgument for options that contradict each other.
Status check_options(const EngineOptions& options);

// Leaves the weights where they are if this job's fit into the budget: nothing is packed then.
Status drop_idle_paging(EngineOptions& options, const Job& job);

// What the options say, without a job.
PlanRequest request_of(const EngineOptions& options, const ModelShapes& shapes);

// kOutOfMemory if loading alone goes beyond the budget: before a weight is read. merge_bytes: PlanRequest's.
Status check_load(const EngineOptions& options, const ModelShapes& shapes, size_t merge_bytes);
// kOutOfMemory if the job goes beyond the budget; the line says which stage, how much and the cheapest cure.
Status check_fits(const PlanRequest& request, size_t budget_bytes);

}  // namespace liveavatar
