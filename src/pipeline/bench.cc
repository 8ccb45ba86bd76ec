#include "pipeline/bench.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "core/output_files.h"
#include "core/size_text.h"
#include "ops/make_backend.h"
#include "plan/report.h"
#include "plan/suggestions.h"
#include "weights/stoppable_source.h"

namespace liveavatar {
namespace {

// Removes this bench's own paging file when it is over. Locked until then: what a killed bench leaves, the next
// removes.
struct FileGuard {
  std::string path;
  int descriptor = -1;
  void hold(const std::string& file) {
    path = file;
    descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor >= 0) try_lock(descriptor);
  }
  ~FileGuard() {
    if (!path.empty()) ::unlink(path.c_str());
    if (descriptor >= 0) ::close(descriptor);
  }
};

class Bench {
 public:
  explicit Bench(const BenchOptions& options) : o_(options) {}

  Expected<BenchResult> run() {
    LA_RETURN_IF_ERROR(decide());
    EngineOptions options;
    options.device = shape().device;
    options.threads = shape().threads;
    options.int8_products = shape().int8_products;
    options.decode_beside = false;
    options.tune = shape().tune;
    options.memory_budget_bytes = o_.limits.device_bytes;
    options.host_budget_bytes = o_.limits.host_bytes;
    LA_ASSIGN_OR_RETURN(models_, Models::without_weights(options, o_.device));
    FileGuard guard;
    LA_RETURN_IF_ERROR(load(guard));
    LA_RETURN_IF_ERROR(prepare());
    LA_RETURN_IF_ERROR(make_blocks());
    result_.charged_peak_bytes = models_->budget->peak_bytes();
    if (models_->host_budget) result_.host_charged_peak_bytes = models_->host_budget->peak_bytes();
    result_.predicted_peak_bytes = plan_.peak_bytes();
    result_.plan = plan_.first;
    return std::move(result_);
  }

 private:
  const JobShape& shape() const { return result_.shape; }
  void say(const std::string& line) const {
    if (o_.say) o_.say(line);
  }
  double lap() {
    auto now = std::chrono::steady_clock::now();
    double seconds = std::chrono::duration<double>(now - since_).count();
    since_ = now;
    return seconds;
  }
  PagingCounts weight_counts() const { return videos_.front()->weights().counts(); }

  // Everything in memory if it fits, else paged.
  Status decide() {
    JobShape whole = o_.shape;
    whole.video_model_only = true;
    whole.decode_beside = false;
    LA_RETURN_IF_ERROR(resolve(whole));
    if (std::string note = products_note(shape(), plan_.first); !note.empty()) say(note);
    const bool fits_whole = fits();
    if (fits_whole && o_.resident_layers < 0 && o_.resident_kv_caches < 0) return {};
    const size_t wanted = plan_.peak_bytes();
    if (!o_.paging_dir.empty()) LA_RETURN_IF_ERROR(find_file());
    LA_RETURN_IF_ERROR(resolve_paged(whole));
    const size_t host_bytes = o_.limits.host_bytes;
    if (host_bytes != 0 && plan_.host_peak_bytes() > host_bytes) {
      return out_of_memory("`host_budget_bytes` " + limit_text(host_bytes) + ": this takes " +
                           need_text(plan_.host_peak_bytes(), host_bytes) +
                           " of host memory beside the card; raise it");
    }
    if (!fits()) {
      return out_of_memory(
          "memory budget " + limit_text(o_.limits.device_bytes) + ": this takes " +
          need_text(wanted, o_.limits.device_bytes) + ", and " + need_text(plan_.peak_bytes(), o_.limits.device_bytes) +
          " with all layers, keys and values paged; choose " + (o_.sessions > 1 ? "fewer `sessions`, or " : "") +
          "a smaller `size`, `infer_frames` or `sample_steps`");
    }
    if (!o_.paging_dir.empty() || shape().layers_in_host) return {};
    if (fits_whole) return invalid_argument("`resident_layers` and `resident_kv_caches` want `paging_dir` DIR");
    return out_of_memory("memory budget " + limit_text(o_.limits.device_bytes) + ": this takes " +
                         need_text(wanted, o_.limits.device_bytes) + "; give `paging_dir` DIR, and it fits with " +
                         std::to_string(shape().resident()) + " of " + std::to_string(shape().shapes.dit.layers) +
                         " layers in memory");
  }

  Status resolve_paged(JobShape shape) {
    shape.packed = true;
    shape.layers_in_host = o_.paging_dir.empty() && shape.beside_host_memory();
    shape.pack_first = !shape.layers_in_host && !file_is_there_;
    shape.disk_kv_caches = !shape.layers_in_host;
    shape.resident_kv_caches = o_.resident_kv_caches;
    LA_RETURN_IF_ERROR(resolve(shape));
    if (o_.resident_layers < 0) return {};
    result_.shape.resident_layers = std::min(o_.resident_layers, shape.shapes.dit.layers);
    const int64_t others = shape.shapes.dit.layers - result_.shape.resident();
    int64_t& host_layers = result_.shape.host_layers;
    if (o_.limits.host_bytes == 0 && shape.beside_host_memory() && !shape.layers_in_host) host_layers = others;
    host_layers = std::min(host_layers, others);
    if (shape.schedule == Schedule::kAuto && result_.shape.paged()) result_.shape.schedule = Schedule::kWavefront;
    LA_ASSIGN_OR_RETURN(plan_, plan_sessions(result_.shape, o_.sessions));
    return {};
  }

  Status resolve(const JobShape& open) {
    LA_ASSIGN_OR_RETURN(result_.shape, resolve_shape(open, o_.limits, o_.sessions));
    LA_ASSIGN_OR_RETURN(plan_, plan_sessions(result_.shape, o_.sessions));
    return {};
  }
  bool fits() const { return o_.limits.keeps(plan_); }

  // The weights' file, and whether an earlier bench left it. One that will not be kept is this bench's alone.
  Status find_file() {
    const DitConfig& config = o_.shape.shapes.dit;
    const DitTypes types = shape().types();
    LA_ASSIGN_OR_RETURN(PackingBackend packing, make_packing_backend(o_.shape.device, {.threads = 1}));
    const Backend& backend = *packing.backend;
    path_ = o_.paging_dir + "/bench-" + std::to_string(config.dim) + "x" + std::to_string(config.layers) + "-" +
            compute_type_name(o_.shape.dtype) + weights_type_name(o_.shape.weights_dtype) + "-" + backend.packing() +
            "-" + std::to_string(o_.seed) + ".packed";
    auto packed = PackedDit::open(path_, backend, types);
    file_is_there_ = packed.ok() && dit_config_json(packed->config) == dit_config_json(config);
    if (!file_is_there_ && !o_.keep) path_.append(".").append(std::to_string(::getpid())).append(PendingFile::kEnding);
    return {};
  }

  Status load(FileGuard& guard) {
    const DitConfig& config = shape().shapes.dit;
    const DitTypes types = shape().types();
    Backend& backend = *models_->backend;
    Budget& budget = *models_->budget;
    TensorSourcePtr source = stoppable(synthetic_tensors(dit_tensors(config, backend), o_.seed), o_.stop);
    lap();
    if (!shape().packed) {
      say("making synthetic weights in memory");
      LA_ASSIGN_OR_RETURN(models_->dit, S2vDit::load(config, *source, backend, budget, types));
      result_.load_seconds = lap();
      return {};
    }
    if (shape().layers_in_host) {
      say("making synthetic weights in host memory");
      WeightLoader loader(*source, backend, budget, MemoryCategory::kWeights, types);
      LA_ASSIGN_OR_RETURN(models_->dit, S2vDit::load_beside(config, types, loader, backend, budget));
      result_.load_seconds = lap();
      return {};
    }
    if (!file_is_there_) {
      say("making synthetic weights in " + path_);
      remove_abandoned(o_.paging_dir);
      LA_ASSIGN_OR_RETURN(PendingFile file, PendingFile::open(path_, PendingFile::Busy::kWait, o_.stop));
      LA_RETURN_IF_ERROR(pack_dit(config, *source, backend, budget, {path_, types, {}, &file}));
      result_.pack_seconds = lap();
    }
    if (!o_.keep && !file_is_there_) guard.hold(path_);
    LA_ASSIGN_OR_RETURN(PackedDit packed, PackedDit::open(path_, backend, types));
    LA_ASSIGN_OR_RETURN(models_->dit, S2vDit::open(std::move(packed), backend, budget));
    return {};
  }

  Status prepare() {
    say("filling the sink");
    for (int i = 0; i < o_.sessions; ++i) {
      LA_RETURN_IF_ERROR(admit(i == 0));
      result_.prefill_seconds += videos_.back()->prefill_seconds();
    }
    result_.load_seconds += lap() - result_.prefill_seconds;
    result_.prefill_bytes_read = weight_counts().bytes_read;
    return {};
  }

  // A session inside the limit that its plan gives, whatever the others do.
  Status admit(bool first) {
    const MemoryPlan& plan = first ? plan_.first : plan_.other;
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Budget> limit, Budget::open_within(*models_->budget, plan.session_bytes));
    JobShape own = shape();
    own.shares_weights = !first;
    own.sessions = o_.sessions;
    SyntheticVideo::Options options{o_.seed, o_.paging_dir, nullptr, o_.stop};
    options.check_finite = o_.check_finite;
    if (!first) options.weights = &videos_.front()->weights();
    LA_ASSIGN_OR_RETURN(std::unique_ptr<SyntheticVideo> video, SyntheticVideo::open(*models_, *limit, own, options));
    limits_.push_back(std::move(limit));
    videos_.push_back(std::move(video));
    return {};
  }

  Status make_blocks() {
    say("making blocks");
    const PagingCounts before = weight_counts();
    std::vector<Denoiser::Run> runs;
    for (auto& video : videos_) {
      video->start();
      runs.push_back(video->run());
    }
    LA_RETURN_IF_ERROR(Denoiser::run_together(videos_.front()->weights(), runs));
    for (const Denoiser::Run& run : runs) LA_RETURN_IF_ERROR(run.status);
    result_.run_seconds = lap();
    result_.weights = weight_counts().since(before);
    result_.kv_caches = videos_.front()->cache_counts();
    result_.ticks = BlockSchedule{shape().steps, shape().blocks_in_flight()}.ticks(shape().blocks);
    result_.direct = videos_.front()->weights().direct();
    result_.blocks = videos_.front()->blocks();
    return check_equal();
  }

  // Sessions of one seed make the same video, whatever runs beside them.
  Status check_equal() const {
    for (const auto& video : videos_) {
      for (size_t i = 0; i < result_.blocks.size(); ++i) {
        if (video->blocks()[i].checksum != result_.blocks[i].checksum)
          return corrupt("sessions side by side made different videos of one seed; please report this");
      }
    }
    return {};
  }

  const BenchOptions& o_;
  BenchResult result_;
  std::string path_;
  bool file_is_there_ = false;
  SessionsPlan plan_;
  std::unique_ptr<Models> models_;
  std::vector<std::unique_ptr<Budget>> limits_;          // a session each
  std::vector<std::unique_ptr<SyntheticVideo>> videos_;  // the first has the layers of all
  std::chrono::steady_clock::time_point since_;
};

}  // namespace

Expected<BenchResult> run_bench(const BenchOptions& options) { return Bench(options).run(); }

}  // namespace liveavatar
