// The resident model: the public engine's calls, and what the planner says of a job before it runs.
#pragma once

#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "liveavatar/live.h"
#include "liveavatar/liveavatar.h"

namespace liveavatar {
class LocalEngine;
}

namespace liveavatar::serve {

struct HostMemory {
  std::string category;
  size_t used_bytes = 0, peak_bytes = 0;
  size_t planned_bytes = 0;  // at the peak of what was admitted last; 0: nothing was
};

// Threads as of Engine.
class EngineHost {
 public:
  static Expected<std::unique_ptr<EngineHost>> load(const EngineOptions& options, const std::stop_token& stop);
  ~EngineHost();

  // describe(), and kOutOfMemory where the planner says that it does not fit.
  Expected<JobInfo> admit(const GenerateRequest& request);
  Status generate(const GenerateRequest& request, const ChunkCallback& on_chunk, const std::stop_token& stop);
  Expected<std::unique_ptr<LiveSession>> open_live(const LiveRequest& request, const LiveCallbacks& callbacks);

  std::vector<HostMemory> memory() const;
  size_t memory_peak_bytes() const;
  size_t budget_bytes() const;  // 0: no limit
  const std::string& model() const { return model_; }

 private:
  explicit EngineHost(std::unique_ptr<LocalEngine> engine);
  std::unique_ptr<LocalEngine> engine_;
  std::string model_;
  mutable std::mutex mutex_;
  std::vector<size_t> planned_bytes_;  // by category
};

}  // namespace liveavatar::serve
