#include "pipeline/engine.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <string>
#include <utility>

#include "core/available_memory.h"
#include "core/boundary.h"
#include "core/output_files.h"
#include "core/threads.h"
#include "ops/make_backend.h"
#include "pipeline/video_file.h"
#include "session/rank_devices.h"

namespace liveavatar {
namespace {

// The caller's function: what it throws ends the job, and is said by its name.
template <typename Result, typename Argument>
std::function<Result(Argument)> guarded(const char* name, const std::function<Result(Argument)>& callback) {
  return [name, &callback](Argument argument) -> Result {
    try {
      return callback(argument);
    } catch (const std::exception& e) {
      throw Failure(cancelled(std::string("generate: ") + name + " threw an exception: " + e.what()));
    } catch (...) {
      throw Failure(cancelled(std::string("generate: ") + name + " threw an exception"));
    }
  };
}

// Holds a flag for as long as it lives, if nobody else does.
class OneAtATime {
 public:
  explicit OneAtATime(std::atomic<bool>& taken) : taken_(taken), mine_(!taken.exchange(true)) {}
  OneAtATime(const OneAtATime&) = delete;
  OneAtATime& operator=(const OneAtATime&) = delete;
  ~OneAtATime() {
    if (mine_) taken_ = false;
  }
  bool mine() const { return mine_; }

 private:
  std::atomic<bool>& taken_;
  bool mine_ = false;
};

// Where nobody says how much: what is available, but for a reserve.
std::optional<size_t> usable_host_bytes() {
  const std::optional<size_t> available = available_host_bytes();
  return available ? std::optional<size_t>(std::max<size_t>(*available / 8 * 7, 1)) : available;
}

}  // namespace

void share_host_memory(const Group& processes, EngineOptions& options) {
  if (!is_card(options.device) || options.host_budget_bytes != 0) return;
  const std::optional<size_t> usable = usable_host_bytes();
  if (!usable) return;
  const std::string host = processes.place(processes.rank()).host;
  size_t cards = 0;
  for (int rank = 0; rank < processes.size(); ++rank) {
    const Group::Place place = processes.place(rank);
    cards += place.host == host && is_card(place.device) ? 1 : 0;
  }
  options.host_budget_bytes = std::max<size_t>(*usable / std::max<size_t>(cards, 1), 1);
}

namespace {

size_t count_cards(const std::vector<std::string>& devices) {
  return static_cast<size_t>(std::count_if(devices.begin(), devices.end(), is_card));
}

// One of so many cards of this process: what is left open.
Status limit_to_free(EngineOptions& rank, size_t cards) {
  LA_ASSIGN_OR_RETURN(const size_t free_bytes, card_free_bytes(rank.device));
  // The rest is for what no plan knows: the driver's and the libraries' code, the video encoder.
  if (rank.memory_budget_bytes == 0) rank.memory_budget_bytes = free_bytes / 16 * 15;
  if (rank.host_budget_bytes == 0) rank.host_budget_bytes = usable_host_bytes().value_or(0) / cards;
  return {};
}

// One memory.
void limit_to_host(EngineOptions& rank) {
  rank.memory_budget_bytes = smaller_limit(rank.memory_budget_bytes, rank.host_budget_bytes);
  rank.host_budget_bytes = 0;
}

// Layers that fit beside the lead's limit may not fit within a smaller one.
void keep_paging(const EngineOptions& asked, const EngineOptions& lead, EngineOptions& own) {
  const size_t bytes = own.memory_budget_bytes;
  if (bytes != lead.memory_budget_bytes && smaller_limit(bytes, lead.memory_budget_bytes) == bytes)
    own.page_weights = asked.page_weights;
}

}  // namespace

Status resolve_lead(EngineOptions& options) {
  LA_ASSIGN_OR_RETURN(const std::vector<std::string> devices, rank_devices(options));
  EngineOptions lead = options;
  take_lead_device(lead, devices);
  if (is_card(lead.device)) {
    const size_t cards = are_processes(lead) ? 1 : count_cards(devices);
    lead.host_budget_bytes /= cards;  // of each
    LA_RETURN_IF_ERROR(limit_to_free(lead, cards));
  } else {
    limit_to_host(lead);
  }
  options = lead;
  return {};
}

EngineOptions rank_options(const EngineOptions& asked, const EngineOptions& lead, const std::string& device) {
  EngineOptions own = single_rank(lead, device);
  own.memory_budget_bytes = asked.memory_budget_bytes;
  own.host_budget_bytes = asked.host_budget_bytes;
  if (!is_card(device)) {
    limit_to_host(own);
  } else if (is_card(lead.device)) {
    own.host_budget_bytes = lead.host_budget_bytes;  // divided already
  } else if (const Expected<std::vector<std::string>> devices = rank_devices(asked); devices.ok()) {
    own.host_budget_bytes /= std::max<size_t>(count_cards(*devices), 1);
  }
  keep_paging(asked, lead, own);
  return own;
}

Expected<EngineOptions> resolve_rank(const EngineOptions& asked, const EngineOptions& lead, const std::string& device) {
  EngineOptions own = rank_options(asked, lead, device);
  if (!is_card(device)) return own;
  LA_ASSIGN_OR_RETURN(const std::vector<std::string> devices, rank_devices(asked));
  LA_RETURN_IF_ERROR(limit_to_free(own, std::max<size_t>(count_cards(devices), 1)));
  keep_paging(asked, lead, own);
  return own;
}

Expected<std::unique_ptr<Checkpoint>> open_checkpoint(const EngineOptions& asked, const std::stop_token& stop) {
  EngineOptions options = asked;
  LA_RETURN_IF_ERROR(resolve_lead(options));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(options, stop));
  checkpoint->asked = asked;
  return checkpoint;
}

Expected<std::unique_ptr<Models>> load_models(std::unique_ptr<Checkpoint> checkpoint, DeviceSource* device) {
  // Keys and values go there when a video begins, which is late for a missing folder.
  const std::string& folder = checkpoint->options.paging_dir;
  if (!folder.empty()) LA_RETURN_IF_ERROR(check_writable_folder({"`paging_dir`", folder}));
  LA_RETURN_IF_ERROR(check_load(*checkpoint));
  LA_ASSIGN_OR_RETURN(const std::vector<std::string> devices, rank_devices(checkpoint->options));
  RankPart rank = part_to_load(checkpoint->options, 0, static_cast<int>(devices.size()));
  rank.samples = rank.samples || checkpoint->shape().one_host;  // for the others
  return Models::load(std::move(checkpoint), device, rank);
}

Expected<std::unique_ptr<LocalEngine>> LocalEngine::load(std::unique_ptr<Checkpoint> checkpoint, Group* processes) {
  return contained("load", [&]() -> Expected<std::unique_ptr<LocalEngine>> {
    LA_ASSIGN_OR_RETURN(const std::vector<std::string> devices, rank_devices(checkpoint->options));
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Models> models, load_models(std::move(checkpoint)));
    std::unique_ptr<LocalEngine> engine(new LocalEngine(std::move(models)));
    engine->processes_ = processes;
    if (processes != nullptr) {
      const RankPart part = part_to_load(engine->models_->options(), 0, processes->size());
      LA_ASSIGN_OR_RETURN(engine->pages_, serve_pages(*engine->models_, *processes, part));
    } else if (devices.size() > 1) {
      LA_ASSIGN_OR_RETURN(engine->ranks_, LocalRanks::open(*engine->models_, devices));
    }
    return engine;
  });
}

Expected<ResolvedJob> LocalEngine::resolve_and_hear(const GenerateRequest& request, const std::stop_token& stop) {
  if (request.image.empty()) return not_found("`image`: none is given; name the portrait, any picture FFmpeg reads");
  if (request.audio.empty()) return not_found("`audio`: none is given; name the voice, any sound FFmpeg reads");
  LA_ASSIGN_OR_RETURN(ResolvedJob resolved, resolve(resolve_options(*models_->checkpoint), request));
  LA_RETURN_IF_ERROR(check_video_encoder(resolved.info));
  LA_RETURN_IF_ERROR(hear(resolved, {.stop = stop}));
  return resolved;
}

Expected<JobInfo> LocalEngine::describe(const GenerateRequest& request) {
  return contained("describe", [&]() -> Expected<JobInfo> {
    LA_ASSIGN_OR_RETURN(ResolvedJob resolved, resolve_and_hear(request, {}));
    LA_RETURN_IF_ERROR(resolved.files.portrait->read(models_->budget->host()).status());
    return resolved.info;
  });
}

Status LocalEngine::generate(const GenerateRequest& request, const ChunkCallback& on_chunk,
                             const std::stop_token& stop) {
  return run_alone([&]() -> Status {
    LA_ASSIGN_OR_RETURN(ResolvedJob resolved, resolve_and_hear(request, stop));
    return run_guarded(resolved, {on_chunk, request.on_progress, stop, {}});
  });
}

Expected<std::unique_ptr<LiveSession>> LocalEngine::open_live(const LiveRequest& request,
                                                              const LiveCallbacks& callbacks, LiveClock* clock) {
  return contained("open_live", [&]() -> Expected<std::unique_ptr<LiveSession>> {
    if (ranks_ != nullptr || processes_ != nullptr)
      return unsupported("open_live: a live session runs on one device; load an engine without `devices`");
    {
      std::lock_guard lock(live_mutex_);
      if (live_ == nullptr) live_ = std::make_unique<LiveLoop>(*models_, running_, clock);
    }
    LA_ASSIGN_OR_RETURN(std::shared_ptr<LiveFeed> feed, live_->open(request, callbacks));
    return std::make_unique<LiveSession>(std::move(feed));
  });
}

Status LocalEngine::run(ResolvedJob& job, const RunCalls& calls) {
  return run_alone([&] { return run_guarded(job, calls); });
}

Status LocalEngine::run_alone(const std::function<Status()>& body) {
  // Refused rather than kept waiting: from a callback it would wait for itself.
  OneAtATime job_place(running_);
  if (!job_place.mine())
    return unsupported(
        "generate: this engine is running a job already, or live sessions; wait until that generate() has returned or "
        "the sessions are closed, or load a second engine");
  Status status = contained("generate", body);
  models_->release_scratch();
  return status;
}

Status LocalEngine::run_guarded(ResolvedJob& job, const RunCalls& calls) {
  if (!calls.on_chunk) return invalid_argument("generate: on_chunk is empty; give a function that takes the frames");
  RunCalls inner = calls;
  inner.on_chunk = guarded("on_chunk", calls.on_chunk);
  if (calls.on_progress) inner.on_progress = guarded("on_progress", calls.on_progress);
  inner.ranks = processes_;
  if (ranks_ == nullptr) return run_job(*models_, job, inner);
  inner.ranks = &ranks_->begin();
  Status status = run_job(*models_, job, inner);
  ranks_->end();
  return status;
}

std::vector<CategoryMemory> LocalEngine::memory_by_category() const {
  CategoryBytes used = models_->budget->used_by_category(), peak = models_->budget->peak_by_category();
  std::vector<CategoryMemory> categories;
  for (size_t t = 0; t < kCategoryCount; ++t)
    categories.push_back({category_name(static_cast<MemoryCategory>(t)), used[t], peak[t]});
  return categories;
}

namespace {

// Layers are loaded into host memory only if a job of the model's own size has no room for them on the card.
Status keep_layers_on_card(Checkpoint& checkpoint) {
  bool& page_weights = checkpoint.options.page_weights;
  if (!from_host_memory(checkpoint.options)) return {};
  page_weights = false;
  LA_ASSIGN_OR_RETURN(ResolvedJob usual, resolve(resolve_options(checkpoint), {}));
  if (usual.limits.keeps({usual.plan, {}})) return {};
  page_weights = true;
  page_weights = check_load(checkpoint).ok();  // else there is no room for them beside the card either
  return {};
}

}  // namespace

Engine::Engine(std::unique_ptr<LocalEngine> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Expected<std::unique_ptr<Engine>> Engine::load(const EngineOptions& options) {
  return contained("load", [&]() -> Expected<std::unique_ptr<Engine>> {
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(options));
    LA_RETURN_IF_ERROR(keep_layers_on_card(*checkpoint));
    LA_ASSIGN_OR_RETURN(std::unique_ptr<LocalEngine> engine, LocalEngine::load(std::move(checkpoint)));
    return std::unique_ptr<Engine>(new Engine(std::move(engine)));
  });
}

Expected<JobInfo> Engine::describe(const GenerateRequest& request) { return impl_->describe(request); }

Status Engine::generate(const GenerateRequest& request, const ChunkCallback& on_chunk, std::stop_token stop) {
  return impl_->generate(request, on_chunk, stop);
}

Expected<std::unique_ptr<LiveSession>> Engine::open_live(const LiveRequest& request, const LiveCallbacks& callbacks) {
  return impl_->open_live(request, callbacks);
}

size_t Engine::memory_used_bytes() const { return impl_->memory_used_bytes(); }
size_t Engine::memory_peak_bytes() const { return impl_->memory_peak_bytes(); }
std::vector<CategoryMemory> Engine::memory_by_category() const { return impl_->memory_by_category(); }

}  // namespace liveavatar
