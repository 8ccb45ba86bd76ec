#include "pipeline/bench.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "core/output_files.h"
#include "models/wan_vae/still.h"
#include "ops/make_backend.h"
#include "ops/transfer.h"
#include "plan/cures.h"
#include "plan/report.h"
#include "session/denoiser.h"
#include "session/noise.h"

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

class Bench : LatentChannel {
 public:
  explicit Bench(const BenchOptions& options) : o_(options) {}

  Expected<BenchResult> run() {
    LA_RETURN_IF_ERROR(decide());
    budget_ = std::make_unique<Budget>(o_.budget_bytes == 0 ? Budget::kUnlimited : o_.budget_bytes);
    LA_ASSIGN_OR_RETURN(program_, Charge::take(*budget_, Tenant::kRuntime, kProgramBytes));
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
    JobShape whole = o_.request;
    whole.video_model_only = true;
    LA_ASSIGN_OR_RETURN(result_.request, settle(whole, o_.budget_bytes));
    LA_ASSIGN_OR_RETURN(result_.plan, plan_memory(r()));
    if (std::string note = products_note(r(), result_.plan); !note.empty()) say(note);
    bool fits = o_.budget_bytes == 0 || result_.plan.peak_bytes <= o_.budget_bytes;
    if (fits && o_.resident_layers < 0 && o_.resident_rings < 0) return {};
    size_t wanted = result_.plan.peak_bytes;
    whole.packed = true;
    whole.disk_rings = true;
    whole.resident_rings = o_.resident_rings;
    LA_RETURN_IF_ERROR(find_file());
    whole.pack_first = !file_is_there_;
    LA_ASSIGN_OR_RETURN(result_.request, settle(whole, o_.budget_bytes));
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
    TensorSourcePtr source = made_up_tensors(dit_tensors(config, *backend_), o_.seed);
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
    const DitGeometry geometry = r().geometry();
    const Denoiser::Options options{{.seed = o_.seed}, {}, o_.paging_dir, {}};
    LA_ASSIGN_OR_RETURN(denoiser_, Denoiser::open(*dit_, *backend_, *budget_, r(), options));
    const DitConfig& c = r().shapes.dit;
    LA_ASSIGN_OR_RETURN(blocks_, BlockMemory::allocate(r(), *budget_));
    LA_ASSIGN_OR_RETURN(pages_, dit_->open_pages(r().resident(), *budget_));
    result_.load_seconds += lap();
    say("filling the sink");
    Budget outside;  // gone before the blocks
    constexpr uint64_t kPrompt = 1u << 20, kReference = kPrompt + 1, kMotion = kPrompt + 2;
    LA_ASSIGN_OR_RETURN(OwnedTensor prompt, random({c.text_len / 2, c.text_dim}, kPrompt, outside));
    denoiser_->set_prompt(prompt.tensor);
    LA_ASSIGN_OR_RETURN(
        OwnedTensor motion,
        random({c.channels, kMotionLatents, geometry.latent_height, geometry.latent_width}, kMotion, outside));
    fill(blocks_.reference.tensor, kReference);
    LA_RETURN_IF_ERROR(denoiser_->prefill(*pages_, blocks_.reference.tensor, motion.tensor));
    result_.prefill_seconds = lap();
    result_.prefill_bytes_read = weight_counts().bytes_read;
    return {};
  }

  Status make_blocks() {
    say("making blocks");
    const PagingCounts before = weight_counts();
    begin_ = std::chrono::steady_clock::now();
    LA_RETURN_IF_ERROR(denoiser_->run(*pages_, {0, r().blocks}, *this).status());
    result_.run_seconds = lap();
    result_.weights = weight_counts();
    result_.weights.bytes_read -= before.bytes_read;
    result_.weights.seconds_waited -= before.seconds_waited;
    result_.rings = denoiser_->cache_counts();
    result_.turns = BlockSchedule{r().steps, r().blocks_in_flight()}.ticks(r().blocks);
    result_.direct = pages_->direct();
    return {};
  }

  Expected<std::optional<BlockStart>> receive(int64_t block) override {
    constexpr uint64_t kSound = 1u << 21;
    BlockStart start;
    start.features = blocks_.features.tensor;
    start.latents = blocks_.latents[static_cast<size_t>(block) % blocks_.latents.size()].tensor;
    fill(start.latents, static_cast<uint64_t>(block));
    fill(start.features, kSound + static_cast<uint64_t>(block));
    return std::optional<BlockStart>(start);
  }

  Status send(int64_t, const Tensor& latents) override {
    std::chrono::duration<double> at = std::chrono::steady_clock::now() - begin_;
    const Download values(*backend_, latents);
    const auto* bytes = reinterpret_cast<const std::byte*>(values.f32());
    result_.blocks.push_back({at.count(), page_checksum(bytes, latents.bytes())});
    return {};
  }

  void fill(const Tensor& t, uint64_t stream) const { fill_noise(o_.seed, stream, Upload(*backend_, t).values()); }
  Expected<OwnedTensor> random(Shape shape, uint64_t stream, Budget& budget) const {
    LA_ASSIGN_OR_RETURN(OwnedTensor t, OwnedTensor::allocate(budget, Tenant::kConditioning, shape, DType::kF32));
    fill(t.tensor, stream);
    return t;
  }

  const BenchOptions& o_;
  BenchResult result_;
  std::string path_;
  bool file_is_there_ = false;
  std::unique_ptr<Budget> budget_;
  Charge program_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<S2vDit> dit_;
  std::unique_ptr<DitPages> pages_;
  BlockMemory blocks_;
  std::unique_ptr<Denoiser> denoiser_;
  std::chrono::steady_clock::time_point since_, begin_;
};

}  // namespace

Expected<BenchResult> run_bench(const BenchOptions& options) { return Bench(options).run(); }

}  // namespace liveavatar
