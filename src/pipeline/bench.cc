#include "pipeline/bench.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "core/output_files.h"
#include "ops/make_backend.h"
#include "plan/report.h"
#include "plan/suggestions.h"

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
    budget_ = std::make_unique<Budget>(o_.budget_bytes == 0 ? Budget::kUnlimited : o_.budget_bytes);
    LA_ASSIGN_OR_RETURN(program_, Charge::acquire(*budget_, MemoryCategory::kRuntime, kProgramBytes));
    BackendOptions options{.threads = r().threads, .int8_products = r().int8_products, .budget = budget_.get()};
    LA_ASSIGN_OR_RETURN(backend_, make_backend(r().device, options));
    FileGuard guard;
    LA_RETURN_IF_ERROR(load(guard));
    LA_RETURN_IF_ERROR(prepare());
    LA_RETURN_IF_ERROR(make_blocks());
    result_.charged_peak_bytes = budget_->peak_bytes();
    return std::move(result_);
  }

 private:
  const JobShape& r() const { return result_.request; }
  void say(const std::string& line) const {
    if (o_.say) o_.say(line);
  }
  double lap() {
    auto now = std::chrono::steady_clock::now();
    double seconds = std::chrono::duration<double>(now - since_).count();
    since_ = now;
    return seconds;
  }
  PagingCounts weight_counts() const { return pages_->counts(); }

  // Everything in memory if it fits, else paged.
  Status decide() {
    LA_CHECK(o_.sessions == 1 || o_.budget_bytes == 0);
    JobShape whole = o_.request;
    whole.video_model_only = true;
    LA_ASSIGN_OR_RETURN(result_.request, resolve_shape(whole, o_.budget_bytes));
    LA_ASSIGN_OR_RETURN(result_.plan, plan_memory(r()));
    if (std::string note = products_note(r(), result_.plan); !note.empty()) say(note);
    bool fits = o_.budget_bytes == 0 || result_.plan.peak_bytes <= o_.budget_bytes;
    if (fits && o_.resident_layers < 0 && o_.resident_kv_caches < 0) return {};
    size_t wanted = result_.plan.peak_bytes;
    whole.packed = true;
    whole.disk_kv_caches = true;
    whole.resident_kv_caches = o_.resident_kv_caches;
    LA_RETURN_IF_ERROR(find_file());
    whole.pack_first = !file_is_there_;
    LA_ASSIGN_OR_RETURN(result_.request, resolve_shape(whole, o_.budget_bytes));
    if (o_.resident_layers >= 0) {
      result_.request.resident_layers = std::min(o_.resident_layers, whole.shapes.dit.layers);
      if (whole.schedule == Schedule::kAuto && r().paged()) result_.request.schedule = Schedule::kWavefront;
    }
    LA_ASSIGN_OR_RETURN(result_.plan, plan_memory(r()));
    if (o_.budget_bytes != 0 && result_.plan.peak_bytes > o_.budget_bytes) {
      return out_of_memory(
          "memory budget " + mib_text(o_.budget_bytes) + ": this takes " + mib_text(wanted) + ", and " +
          mib_text(result_.plan.peak_bytes) +
          " with all layers, keys and values paged; choose a smaller `size`, `infer_frames` or `sample_steps`");
    }
    if (o_.paging_dir.empty() && fits)
      return invalid_argument("`resident_layers` and `resident_rings` want `paging_dir` DIR");
    if (o_.paging_dir.empty()) {
      return out_of_memory("memory budget " + mib_text(o_.budget_bytes) + ": this takes " + mib_text(wanted) +
                           "; give `paging_dir` DIR, and it fits with " + std::to_string(r().resident()) + " of " +
                           std::to_string(r().shapes.dit.layers) + " layers in memory");
    }
    return {};
  }

  // The weights' file, and whether an earlier bench left it. One that will not be kept is this bench's alone.
  Status find_file() {
    const DitConfig& config = o_.request.shapes.dit;
    const DitTypes types = r().types();
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, make_backend(o_.request.device, {.threads = 1}));
    path_ = o_.paging_dir + "/bench-" + std::to_string(config.dim) + "x" + std::to_string(config.layers) + "-" +
            compute_type_name(o_.request.dtype) + weights_type_name(o_.request.weights_dtype) + "-" +
            backend->packing() + "-" + std::to_string(o_.seed) + ".packed";
    auto packed = PackedDit::open(path_, *backend, types);
    file_is_there_ = packed.ok() && dit_config_json(packed->config) == dit_config_json(config);
    if (!file_is_there_ && !o_.keep) path_.append(".").append(std::to_string(::getpid())).append(PendingFile::kEnding);
    return {};
  }

  Status load(FileGuard& guard) {
    const DitConfig& config = r().shapes.dit;
    const DitTypes types = r().types();
    TensorSourcePtr source = synthetic_tensors(dit_tensors(config, *backend_), o_.seed);
    lap();
    if (!r().packed) {
      say("making up the weights in memory");
      LA_ASSIGN_OR_RETURN(dit_, S2vDit::load(config, *source, *backend_, *budget_, types));
      result_.load_seconds = lap();
      return {};
    }
    if (!file_is_there_) {
      say("making up the weights in " + path_);
      remove_abandoned(o_.paging_dir);
      LA_ASSIGN_OR_RETURN(PendingFile file, PendingFile::open(path_, PendingFile::Busy::kWait));
      LA_RETURN_IF_ERROR(pack_dit(config, *source, *backend_, *budget_, {path_, types, {}, &file}));
      result_.pack_seconds = lap();
    }
    if (!o_.keep && !file_is_there_) guard.hold(path_);
    LA_ASSIGN_OR_RETURN(PackedDit packed, PackedDit::open(path_, *backend_, types));
    LA_ASSIGN_OR_RETURN(dit_, S2vDit::open(std::move(packed), *backend_, *budget_));
    return {};
  }

  // As a job's run does: memory, prompt, sink.
  Status prepare() {
    const SyntheticVideo::Options options{o_.seed, o_.paging_dir};
    for (int i = 0; i < o_.sessions; ++i) {
      LA_ASSIGN_OR_RETURN(std::unique_ptr<SyntheticVideo> video,
                          SyntheticVideo::open(*dit_, *backend_, *budget_, r(), options));
      videos_.push_back(std::move(video));
    }
    LA_ASSIGN_OR_RETURN(pages_, dit_->open_weight_groups(r().resident(), *budget_));
    result_.load_seconds += lap();
    say("filling the sink");
    for (auto& video : videos_) LA_RETURN_IF_ERROR(video->prefill(*pages_));
    result_.prefill_seconds = lap();
    result_.prefill_bytes_read = weight_counts().bytes_read;
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
    LA_RETURN_IF_ERROR(Denoiser::run_together(*pages_, runs));
    for (const Denoiser::Run& run : runs) LA_RETURN_IF_ERROR(run.status);
    result_.run_seconds = lap();
    result_.weights = weight_counts();
    result_.weights.bytes_read -= before.bytes_read;
    result_.weights.seconds_waited -= before.seconds_waited;
    result_.kv_caches = videos_.front()->cache_counts();
    result_.turns = BlockSchedule{r().steps, r().blocks_in_flight()}.ticks(r().blocks);
    result_.direct = pages_->direct();
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
  std::unique_ptr<Budget> budget_;
  Charge program_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<S2vDit> dit_;
  std::unique_ptr<DitWeightGroups> pages_;
  std::vector<std::unique_ptr<SyntheticVideo>> videos_;  // a session each
  std::chrono::steady_clock::time_point since_;
};

}  // namespace

Expected<BenchResult> run_bench(const BenchOptions& options) { return Bench(options).run(); }

}  // namespace liveavatar
