// The public Engine: a job from files to blocks of frames.
#include <algorithm>

#include "media/audio.h"
#include "pipeline/clip_loop.h"
#include "pipeline/models.h"

namespace liveavatar {
namespace {

class EngineImpl : public Engine {
 public:
  explicit EngineImpl(std::unique_ptr<Models> models) : models_(std::move(models)) {}

  Expected<JobInfo> describe(const Job& job) override {
    LA_RETURN_IF_ERROR(check_job(job));
    LA_ASSIGN_OR_RETURN(Image portrait, prepare_portrait(job, *models_->budget));
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Voice> voice, Voice::open(*models_, job));
    JobInfo info = plan_job(job, portrait, voice->features(), false).info;
    if (!voice->note().empty()) info.notes.push_back(voice->note());
    return info;
  }

  Status generate(const Job& job, const BlockCallback& on_block) override {
    return run_job(*models_, job, on_block, {});
  }

  size_t memory_used_bytes() const override { return models_->budget->used_bytes(); }
  size_t memory_peak_bytes() const override { return models_->budget->peak_bytes(); }
  std::vector<TenantMemory> memory_by_tenant() const override {
    TenantBytes used = models_->budget->used_by_tenant(), peak = models_->budget->peak_by_tenant();
    std::vector<TenantMemory> tenants;
    for (size_t t = 0; t < kTenantCount; ++t)
      tenants.push_back({tenant_name(static_cast<Tenant>(t)), used[t], peak[t]});
    return tenants;
  }

 private:
  std::unique_ptr<Models> models_;
};

}  // namespace

Expected<std::unique_ptr<Engine>> Engine::load(const EngineOptions& options) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Models> models, Models::load(options));
  return std::unique_ptr<Engine>(new EngineImpl(std::move(models)));
}

}  // namespace liveavatar
