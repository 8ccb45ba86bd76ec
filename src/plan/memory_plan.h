// What a job will hold, before any weight is read: the stages of a run over a dry run of the models.
#pragma once

#include <string>
#include <vector>

#include "core/memory.h"
#include "session/job_shape.h"
#include "session/memory.h"

namespace liveavatar {

// What is held at one stage of a run: the highest moment of it, and what stays when it is over.
struct PlanStage {
  std::string name;  // "load", "portrait", "text", "image", "run"
  size_t peak_bytes = 0, after_bytes = 0;
};

// Of the memory of the device; what is beside a card in host memory is in `host`.
struct MemoryPlan {
  size_t peak_bytes = 0;    // highest of the whole run
  size_t steady_bytes = 0;  // while blocks are made
  size_t load_peak_bytes = 0;
  size_t session_bytes = 0;  // the most that the video itself holds: the limit of a session beside others
  size_t scratch_bytes = 0;  // by which the backends' scratch grows, if no video of its size is there yet
  // Of weights that are not on the device, brought there whenever forwards go through the layers; from disk, of these.
  size_t paged_bytes = 0, paged_disk_bytes = 0;
  size_t paged_block_bytes = 0, paged_block_disk_bytes = 0;  // the same, once a block beside that, for its audio
  size_t resting_bytes = 0;  // of weights on the device that are read for a new prompt, block or timestep alone
  // Of keys and values that are not on the device: so much a block moves once KV caches are full, three of four slots
  // in and one out; from and to disk, of these.
  size_t kv_cache_bytes = 0, kv_cache_disk_bytes = 0;
  CategoryBytes peak_by_category{}, steady_by_category{};
  // Zeros where the device is the host.
  struct Host {
    size_t peak_bytes = 0, load_peak_bytes = 0;
    size_t session_bytes = 0;  // the most that the video itself adds
    CategoryBytes peak_by_category{};
  } host;
  bool int8_products = false;  // asked for, and this machine can
  std::vector<PlanStage> stages;
};

// Of one rank (JobShape::rank). Where ranks share a host's memory the lead's plan is that of all of them. Error: the
// device is unknown.
Expected<MemoryPlan> plan_memory(const JobShape& shape);

// Videos of one shape at once, whose layers' weights are those of the first.
struct SessionsPlan {
  MemoryPlan first, other;
  int sessions = 1;
  size_t peak_bytes() const { return first.peak_bytes + static_cast<size_t>(sessions - 1) * other.session_bytes; }
  size_t host_peak_bytes() const {
    return first.host.peak_bytes + static_cast<size_t>(sessions - 1) * other.host.session_bytes;
  }
};
Expected<SessionsPlan> plan_sessions(const JobShape& shape, int sessions);

}  // namespace liveavatar
