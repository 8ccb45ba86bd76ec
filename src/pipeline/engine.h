// The engine behind the public one: for callers that hold a checkpoint and resolved jobs of their own.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <vector>

#include "pipeline/live_loop.h"
#include "pipeline/local_ranks.h"
#include "pipeline/resolve.h"
#include "pipeline/run.h"
#include "session/models.h"
#include "session/page_server.h"

namespace liveavatar {

// The lead's options of a run whose devices have to be there: kUnsupported or kNotFound where a card is not, and then
// nothing changes. Without a budget the card's is what is free on it.
Status resolve_lead(EngineOptions& options);
// Another rank of that process: `asked` are the options as they were given, `lead` what resolve_lead() made of them.
// Its limits are those that were asked for, of its own device.
EngineOptions rank_options(const EngineOptions& asked, const EngineOptions& lead, const std::string& device);
// The same with the limits of a card that are left open: what is free on it, and its part of the host memory that is
// available. kUnsupported or kNotFound where the card is not there.
Expected<EngineOptions> resolve_rank(const EngineOptions& asked, const EngineOptions& lead, const std::string& device);
// The checkpoint of such a run.
Expected<std::unique_ptr<Checkpoint>> open_checkpoint(const EngineOptions& options, const std::stop_token& stop = {});

// Before any rank of a group of processes loads: each one with a card keeps its part of the host memory that is there,
// as cards of one process do (host_budget_bytes).
void share_host_memory(const Group& processes, EngineOptions& options);

// kOutOfMemory before a weight is read where the budget is too small for the models alone.
Expected<std::unique_ptr<Models>> load_models(std::unique_ptr<Checkpoint> checkpoint, DeviceSource* device = nullptr);

class LocalEngine {
 public:
  // processes: of ranks that are other processes (serve_ranks), to be ended by end_ranks(); outlives the engine.
  static Expected<std::unique_ptr<LocalEngine>> load(std::unique_ptr<Checkpoint> checkpoint,
                                                     Group* processes = nullptr);

  // As Engine's.
  Expected<JobInfo> describe(const GenerateRequest& request);
  Status generate(const GenerateRequest& request, const ChunkCallback& on_chunk, const std::stop_token& stop);
  // clock: instead of the real one, of the first call; outlives the engine.
  Expected<std::unique_ptr<LiveSession>> open_live(const LiveRequest& request, const LiveCallbacks& callbacks,
                                                   LiveClock* clock = nullptr);
  // A job that was resolved with this engine's checkpoint. What the callbacks throw is contained, as in generate().
  Status run(ResolvedJob& job, const RunCalls& calls);

  const Checkpoint& checkpoint() const { return *models_->checkpoint; }
  size_t memory_used_bytes() const { return models_->budget->used_bytes(); }
  size_t memory_peak_bytes() const { return models_->budget->peak_bytes(); }
  // Beside a card; 0 where the device is the host.
  size_t host_memory_peak_bytes() const { return models_->host_budget ? models_->host_budget->peak_bytes() : 0; }
  std::vector<CategoryMemory> memory_by_category() const;

 private:
  explicit LocalEngine(std::unique_ptr<Models> models) : models_(std::move(models)) {}
  Expected<ResolvedJob> resolve_and_hear(const GenerateRequest& request, const std::stop_token& stop);
  // Refused where a job is running.
  Status run_alone(const std::function<Status()>& body);
  Status run_guarded(ResolvedJob& job, const RunCalls& calls);

  std::unique_ptr<Models> models_;     // of the lead
  std::unique_ptr<LocalRanks> ranks_;  // threads of this process; null: none
  Group* processes_ = nullptr;         // other processes; null: none
  std::unique_ptr<PageServer> pages_;  // of their weights; null: every rank has all
  std::atomic<bool> running_ = false;  // a job, or live sessions
  std::mutex live_mutex_;
  std::unique_ptr<LiveLoop> live_;  // null: there was no live session yet
};

}  // namespace liveavatar
