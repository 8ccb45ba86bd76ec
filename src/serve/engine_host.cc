#include "serve/engine_host.h"

#include <filesystem>
#include <utility>

#include "core/boundary.h"
#include "pipeline/engine.h"

namespace liveavatar::serve {

EngineHost::EngineHost(std::unique_ptr<LocalEngine> engine) : engine_(std::move(engine)) {
  const EngineOptions& options = engine_->checkpoint().options;
  const std::string& path = options.checkpoint_dir.empty() ? options.dit_path : options.checkpoint_dir;
  std::filesystem::path name = std::filesystem::path(path).lexically_normal();
  if (!name.has_filename()) name = name.parent_path();
  model_ = name.filename().string();
}

EngineHost::~EngineHost() = default;

Expected<std::unique_ptr<EngineHost>> EngineHost::load(const EngineOptions& options, const std::stop_token& stop) {
  return contained("load", [&]() -> Expected<std::unique_ptr<EngineHost>> {
    // The checkpoint keeps its token, and reads weights in jobs too: those end by theirs.
    std::stop_source loading;
    const std::stop_callback forward(stop, [&] { loading.request_stop(); });
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(options, loading.get_token()));
    LA_ASSIGN_OR_RETURN(std::unique_ptr<LocalEngine> engine, LocalEngine::load(std::move(checkpoint)));
    return std::unique_ptr<EngineHost>(new EngineHost(std::move(engine)));
  });
}

Expected<JobInfo> EngineHost::admit(const GenerateRequest& request) {
  return contained("admission", [&]() -> Expected<JobInfo> {
    LA_ASSIGN_OR_RETURN(JobInfo info, engine_->describe(request));
    LA_ASSIGN_OR_RETURN(const ResolvedJob job, resolve(resolve_options(engine_->checkpoint()), request));
    LA_RETURN_IF_ERROR(check_fits(job));
    std::lock_guard lock(mutex_);
    planned_bytes_.assign(job.plan.peak_by_category.begin(), job.plan.peak_by_category.end());
    return info;
  });
}

Status EngineHost::generate(const GenerateRequest& request, const ChunkCallback& on_chunk,
                            const std::stop_token& stop) {
  return engine_->generate(request, on_chunk, stop);
}

Expected<std::unique_ptr<LiveSession>> EngineHost::open_live(const LiveRequest& request,
                                                             const LiveCallbacks& callbacks) {
  return engine_->open_live(request, callbacks);
}

std::vector<HostMemory> EngineHost::memory() const {
  std::vector<HostMemory> all;
  std::lock_guard lock(mutex_);
  for (const CategoryMemory& category : engine_->memory_by_category()) {
    HostMemory memory{category.name, category.used_bytes, category.peak_bytes};
    if (all.size() < planned_bytes_.size()) memory.planned_bytes = planned_bytes_[all.size()];
    all.push_back(memory);
  }
  return all;
}

size_t EngineHost::memory_peak_bytes() const { return engine_->memory_peak_bytes(); }
size_t EngineHost::budget_bytes() const { return engine_->checkpoint().options.memory_budget_bytes; }

}  // namespace liveavatar::serve
