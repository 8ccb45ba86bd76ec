#include "plan/memory_plan.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "core/program_memory.h"
#include "media/mask_image.h"
#include "models/wav2vec2/audio_features.h"
#include "session/live_columns.h"
#include "session/models.h"
#include "session/video_session.h"

namespace liveavatar {
namespace {

// A video over a dry run of the models, made of sizes. tests/plan compares plan and run byte by byte.
class DryRun : VideoInputs {
 public:
  explicit DryRun(const JobShape& shape) : shape_(shape) {}

  Expected<MemoryPlan> run() {
    LA_RETURN_IF_ERROR(check_int8_products(shape_.int8_products, shape_.weights_dtype));
    LA_ASSIGN_OR_RETURN(models_, Models::dry_run(shape_));
    end_stage("load");
    plan_.load_peak_bytes = total().peak_bytes();
    if (models_->host_budget) plan_.host.load_peak_bytes = models_->host_budget->peak_bytes();
    plan_.int8_products = models_->backend->int8_products();
    const KvCacheShape caches = shape_.kv_caches();
    plan_.kv_cache_bytes = kv_cache_bytes_per_block(caches, caches.count() - caches.in_memory());
    plan_.kv_cache_disk_bytes = kv_cache_bytes_per_block(caches, caches.on_disk());
    const PassBytes pass = models_->dit == nullptr ? PassBytes() : models_->dit->paged_bytes(shape_.layers());
    plan_.paged_bytes = pass.pass.all;
    plan_.paged_disk_bytes = pass.pass.disk;
    plan_.paged_block_bytes = pass.block.all;
    plan_.paged_block_disk_bytes = pass.block.disk;
    plan_.resting_bytes = pass.resting;
    const size_t models_bytes = total().used_bytes();
    const size_t host_models_bytes = total().host().used_bytes();
    total().host().restart_recent_peak();
    LA_ASSIGN_OR_RETURN(session_budget_, Budget::open_within(total(), Budget::kUnlimited));
    session_ = std::make_unique<VideoSession>(*models_, *session_budget_, shape_, VideoSession::Options());
    LA_RETURN_IF_ERROR(session_->prepare(*this));
    end_stage("image");
    LA_RETURN_IF_ERROR(hear());
    end_stage("run");
    plan_.peak_bytes = total().peak_bytes();
    plan_.steady_bytes = total().used_bytes();
    plan_.session_bytes = session_budget_->peak_bytes();
    plan_.scratch_bytes = plan_.steady_bytes - models_bytes - session_budget_->used_bytes();
    plan_.peak_by_category = total().peak_by_category();
    plan_.steady_by_category = total().used_by_category();
    if (models_->host_budget) {
      plan_.host.peak_bytes = models_->host_budget->peak_bytes();
      plan_.host.session_bytes = models_->host_budget->recent_peak_bytes() - host_models_bytes;
      plan_.host.peak_by_category = models_->host_budget->peak_by_category();
    }
    return plan_;
  }

 private:
  Budget& total() { return *models_->budget; }

  void end_stage(const char* name) {
    plan_.stages.push_back({name, total().recent_peak_bytes(), total().used_bytes()});
    total().restart_recent_peak();
  }

  // The portrait; masks are read after it, and a HEIF portrait once more for its orientation.
  Status open(Budget& budget) override {
    const size_t mask = mask_bytes(shape_.first_mask_pixels);
    const size_t bytes = std::max({shape_.portrait_bytes, shape_.orientation_bytes, mask});
    return Charge::acquire(budget, MemoryCategory::kMedia, bytes).status();
  }

  void begin(Stage stage) override {
    if (stage == Stage::kText) end_stage("portrait");
    if (stage == Stage::kImage) end_stage("text");
  }

  Expected<OwnedTensor> prompt(VideoSession& session) override {
    const DitConfig& dit = shape_.shapes.dit;
    const Shape rows{dit.text_len, dit.text_dim};
    if (shape_.video_model_only)
      return OwnedTensor::allocate(session.budget().host(), MemoryCategory::kConditioning, rows, DType::kF32);
    return session.encode_prompt(prompt_ids());
  }
  std::vector<int32_t> prompt_ids() const {
    const int64_t tokens = shape_.prompt_tokens > 0 ? shape_.prompt_tokens : shape_.shapes.dit.text_len;
    return std::vector<int32_t>(static_cast<size_t>(tokens), 0);
  }

  Expected<StaticImageLatents> portrait(VideoSession& session) override {
    const Shape image{3, shape_.height, shape_.width};
    if (shape_.video_model_only) return StaticImageLatents::allocate(shape_.shapes.vae, image, session.budget());
    return session.encode_portrait(Image());
  }

  // The first block's audio.
  Status hear() {
    if (shape_.video_model_only) return {};
    if (shape_.live.live()) return open_live();
    LA_RETURN_IF_ERROR(hear(shape_.voice_samples));
    for (int64_t samples : shape_.more_voices) LA_RETURN_IF_ERROR(hear(samples));
    return {};
  }
  Status open_live() {
    LA_ASSIGN_OR_RETURN(live_, LiveMemory::allocate(shape_.live, *models_->audio, session_budget_->host()));
    LA_ASSIGN_OR_RETURN(chunks_, LiveChunkMemory::allocate(shape_, *session_budget_));
    return shape_.live.changes ? change() : Status();
  }
  // Beside all that a session has while it runs. The next portrait may take as much to read as the first.
  Status change() {
    end_stage("live");
    LA_RETURN_IF_ERROR(session_->encode_new_prompt(prompt_ids()).status());
    end_stage("new prompt");
    LA_RETURN_IF_ERROR(open(session_budget_->host()));
    LA_RETURN_IF_ERROR(portrait(*session_).status());
    end_stage("new portrait");
    return {};
  }
  Status hear(int64_t voice_samples) {
    const Wav2Vec2& audio = *models_->audio;
    const AudioWindow window = audio_window(voice_samples, {});
    LA_ASSIGN_OR_RETURN(AudioMemory voice, AudioMemory::allocate(audio.config(), window, audio.dtype(), audio.backend(),
                                                                 session_budget_->host()));
    voices_.push_back(std::move(voice));
    return {};
  }

  const JobShape& shape_;
  MemoryPlan plan_;
  std::unique_ptr<Models> models_;
  std::unique_ptr<Budget> session_budget_;
  std::unique_ptr<VideoSession> session_;
  std::vector<AudioMemory> voices_;
  LiveMemory live_;
  LiveChunkMemory chunks_;
};

}  // namespace

namespace {

// Of another rank on the same weights: what its video and its backend add.
void add_rank(const MemoryPlan& rank, MemoryPlan& plan) {
  const size_t bytes = rank.session_bytes + rank.scratch_bytes;
  plan.peak_bytes += bytes;
  plan.steady_bytes += bytes;
  plan.session_bytes += bytes;
  for (size_t t = 0; t < kCategoryCount; ++t) {
    const auto category = static_cast<MemoryCategory>(t);
    if (category == MemoryCategory::kWeights) continue;
    const size_t program = category == MemoryCategory::kRuntime ? kProgramBytes + loaded_library_bytes() : 0;
    plan.peak_by_category[t] += rank.peak_by_category[t] - program;
    plan.steady_by_category[t] += rank.steady_by_category[t] - program;
  }
  for (PlanStage& stage : plan.stages) {
    if (stage.name != "run") continue;
    stage.peak_bytes += bytes;
    stage.after_bytes += bytes;
  }
}

}  // namespace

Expected<MemoryPlan> plan_memory(const JobShape& shape) {
  LA_ASSIGN_OR_RETURN(MemoryPlan plan, DryRun(shape).run());
  if (!shape.one_host || !shape.rank.lead) return plan;
  for (int rank = 1; rank < shape.placement.ranks(); ++rank) {
    const JobShape other = rank_shape(shape, shape.placement, rank);
    LA_ASSIGN_OR_RETURN(const MemoryPlan added, DryRun(other).run());
    add_rank(added, plan);
  }
  return plan;
}

Expected<SessionsPlan> plan_sessions(const JobShape& shape, int sessions) {
  SessionsPlan plan;
  plan.sessions = sessions;
  JobShape first = shape, other = shape;
  first.sessions = sessions;
  LA_ASSIGN_OR_RETURN(plan.first, plan_memory(first));
  if (sessions == 1) return plan;
  other.shares_weights = true;
  LA_ASSIGN_OR_RETURN(plan.other, plan_memory(other));
  return plan;
}

}  // namespace liveavatar
