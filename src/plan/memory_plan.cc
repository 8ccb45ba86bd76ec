#include "plan/memory_plan.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "media/mask_picture.h"
#include "models/wav2vec2/audio_features.h"
#include "session/models.h"
#include "session/video_session.h"

namespace liveavatar {
namespace {

// The stages of a job over a dry run of the models. tests/plan compares plan and run byte by byte.
class DryRun {
 public:
  explicit DryRun(const JobShape& shape) : shape_(shape) {}

  Expected<MemoryPlan> run() {
    LA_RETURN_IF_ERROR(check_int8_products(shape_.int8_products, shape_.weights_dtype));
    LA_ASSIGN_OR_RETURN(models_, Models::dry_run(shape_));
    end_stage("load");
    plan_.load_peak_bytes = budget().peak_bytes();
    plan_.int8_products = models_->backend->int8_products();
    plan_.kv_cache_bytes = kv_cache_bytes_per_block(shape_.kv_caches());
    plan_.paged_bytes = models_->dit->paged_bytes(shape_.resident());
    const size_t models_bytes = budget().used_bytes();
    LA_ASSIGN_OR_RETURN(session_budget_, Budget::open_within(budget(), Budget::kUnlimited));
    session_ = std::make_unique<VideoSession>(*models_, *session_budget_, shape_, VideoSession::Options());
    LA_RETURN_IF_ERROR(shape_.video_model_only ? denoise_only() : make_video());
    plan_.peak_bytes = budget().peak_bytes();
    plan_.steady_bytes = budget().used_bytes();
    plan_.session_bytes = session_budget_->peak_bytes();
    plan_.scratch_bytes = plan_.steady_bytes - models_bytes - session_budget_->used_bytes();
    plan_.peak_by_category = budget().peak_by_category();
    plan_.steady_by_category = budget().used_by_category();
    return plan_;
  }

 private:
  Budget& budget() { return *models_->budget; }

  void end_stage(const char* name) {
    plan_.stages.push_back({name, budget().recent_peak_bytes(), budget().used_bytes()});
    budget().restart_recent_peak();
  }

  // As Bench does.
  Status denoise_only() {
    LA_RETURN_IF_ERROR(session_->open_denoiser());
    end_stage("text");
    LA_RETURN_IF_ERROR(session_->open_blocks());
    end_stage("image");
    end_stage("run");
    return {};
  }

  // As JobRun does.
  Status make_video() {
    LA_RETURN_IF_ERROR(read_portrait());
    end_stage("portrait");
    LA_RETURN_IF_ERROR(session_->open_writer());
    const int64_t tokens = shape_.prompt_tokens > 0 ? shape_.prompt_tokens : shape_.shapes.dit.text_len;
    const std::vector<int32_t> ids(static_cast<size_t>(tokens), 0);
    LA_ASSIGN_OR_RETURN(OwnedTensor rows, session_->encode_prompt(ids));
    LA_RETURN_IF_ERROR(session_->open_denoiser());
    LA_RETURN_IF_ERROR(session_->set_prompt(std::move(rows)));
    end_stage("text");
    LA_RETURN_IF_ERROR(session_->encode_portrait(Image()));
    LA_RETURN_IF_ERROR(session_->open_decoder());
    if (!shape_.pose.empty()) LA_RETURN_IF_ERROR(session_->open_pose(nullptr, false));
    end_stage("image");
    LA_RETURN_IF_ERROR(hear(shape_.voice_samples));
    for (int64_t samples : shape_.more_voices) LA_RETURN_IF_ERROR(hear(samples));
    end_stage("run");
    return {};
  }

  // Beside it the first masks are read, and what finds its turn.
  Status read_portrait() {
    const size_t mask = mask_bytes(shape_.first_mask_pixels);
    const size_t bytes = std::max({shape_.portrait_bytes, shape_.orientation_bytes, mask});
    return Charge::acquire(*session_budget_, MemoryCategory::kMedia, bytes).status();
  }

  // With the first block's sound.
  Status hear(int64_t voice_samples) {
    const Wav2Vec2& audio = *models_->audio;
    const AudioWindow window = audio_window(voice_samples, {});
    LA_ASSIGN_OR_RETURN(AudioMemory voice, AudioMemory::allocate(audio.config(), window, audio.dtype(), audio.backend(),
                                                                 *session_budget_));
    voices_.push_back(std::move(voice));
    return {};
  }

  const JobShape& shape_;
  MemoryPlan plan_;
  std::unique_ptr<Models> models_;
  std::unique_ptr<Budget> session_budget_;
  std::unique_ptr<VideoSession> session_;
  std::vector<AudioMemory> voices_;
};

}  // namespace

Expected<MemoryPlan> plan_memory(const JobShape& shape) { return DryRun(shape).run(); }

namespace {

// The most of 0..count with which it fits; fits(0) is known.
template <typename Fits>
Expected<int64_t> most_that_fit(int64_t count, const Fits& fits) {
  int64_t most = 0, too_many = count + 1;
  while (too_many - most > 1) {
    LA_ASSIGN_OR_RETURN(bool good, fits((most + too_many) / 2));
    (good ? most : too_many) = (most + too_many) / 2;
  }
  return most;
}

class ShapeResolver {
 public:
  ShapeResolver(const JobShape& request, size_t budget_bytes)
      : r_(request),
        budget_bytes_(budget_bytes),
        kv_caches_open_(request.disk_kv_caches && request.resident_kv_caches < 0) {}

  Expected<JobShape> run() {
    bool open = r_.schedule == Schedule::kAuto;
    const Schedule asked = r_.schedule;
    if (open) r_.schedule = Schedule::kSequential;
    if (budget_bytes_ == 0 || (!r_.packed && !kv_caches_open_)) return r_;
    LA_ASSIGN_OR_RETURN(bool all_fit, fits());
    if (all_fit) return r_;
    for (Schedule schedule : {Schedule::kWavefront, Schedule::kSequential}) {
      r_.schedule = open ? schedule : asked;
      if (open && r_.schedule == Schedule::kWavefront && (!r_.packed || r_.blocks_in_flight() == 1))
        continue;  // of no use
      LA_ASSIGN_OR_RETURN(bool found, page());
      if (found || !open) return r_;
    }
    return r_;
  }

 private:
  Expected<bool> fits() const {
    LA_ASSIGN_OR_RETURN(MemoryPlan plan, plan_memory(r_));
    return plan.peak_bytes <= budget_bytes_;
  }
  Expected<bool> fits_with(int64_t JobShape::*field, int64_t count) {
    r_.*field = count;
    return fits();
  }

  // Weights leave memory before keys and values do: those are written too, and disks wear.
  Expected<bool> page() {
    if (kv_caches_open_) r_.resident_kv_caches = -1;
    if (r_.packed) {
      LA_ASSIGN_OR_RETURN(bool any, fits_with(&JobShape::resident_layers, 0));
      if (any) return fill(&JobShape::resident_layers, r_.shapes.dit.layers);
    }
    if (!kv_caches_open_) return false;
    LA_ASSIGN_OR_RETURN(bool any, fits_with(&JobShape::resident_kv_caches, 0));
    return any ? fill(&JobShape::resident_kv_caches, r_.kv_caches().count()) : Expected<bool>(false);
  }

  Expected<bool> fill(int64_t JobShape::*field, int64_t count) {
    auto with = [&](int64_t n) { return fits_with(field, n); };
    LA_ASSIGN_OR_RETURN(int64_t most, most_that_fit(count, with));
    r_.*field = most;
    return true;
  }

  JobShape r_;
  size_t budget_bytes_;
  bool kv_caches_open_;
};

}  // namespace

Expected<JobShape> resolve_shape(const JobShape& request, size_t budget_bytes) {
  return ShapeResolver(request, budget_bytes).run();
}

}  // namespace liveavatar
