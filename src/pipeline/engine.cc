// The public Engine: a job from files to blocks of frames.
#include <atomic>
#include <exception>
#include <functional>
#include <string>

#include "core/boundary.h"
#include "media/audio.h"
#include "pipeline/clip_loop.h"
#include "pipeline/models.h"
#include "pipeline/pose.h"
#include "pipeline/speakers.h"

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

class EngineImpl : public Engine {
 public:
  explicit EngineImpl(std::unique_ptr<Models> models) : models_(std::move(models)) {}

  Expected<JobInfo> describe(const Job& asked) override {
    return contained("describe", [&]() -> Expected<JobInfo> {
      const Job job = with_size(asked, models_->options);
      LA_RETURN_IF_ERROR(check_job(job));
      LA_ASSIGN_OR_RETURN(Portrait portrait, prepare_portrait(job, *models_->budget));
      if (!job.pose_video.empty()) LA_RETURN_IF_ERROR(pose_video_info(job.pose_video, pose_rule(job)).status());
      LA_RETURN_IF_ERROR(job_masks(job).status());
      LA_ASSIGN_OR_RETURN(std::unique_ptr<Voices> voices, Voices::open(*models_->audio, job));
      JobInfo info = plan_job(job, portrait, voices->length(), false).info;
      info.notes = voices->notes();
      if (std::string note = size_note(job, info); !note.empty()) info.notes.push_back(note);
      return info;
    });
  }

  Status generate(const Job& job, const BlockCallback& on_block) override {
    if (!on_block) return invalid_argument("generate: on_block is empty; give a function that takes the frames");
    // Refused rather than kept waiting: from a callback it would wait for itself.
    OneAtATime job_place(running_);
    if (!job_place.mine())
      return unsupported(
          "generate: this engine is running a job already; wait until that generate() has returned, or load a second "
          "engine");
    return contained("generate", [&] {
      Job guarded_job = with_size(job, models_->options);
      if (job.on_progress) guarded_job.on_progress = guarded("on_progress", job.on_progress);
      return run_job(*models_, guarded_job, guarded("on_block", on_block), {});
    });
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
  std::atomic<bool> running_ = false;  // a job
};

}  // namespace

Expected<std::unique_ptr<Engine>> Engine::load(const EngineOptions& options) {
  return contained("load", [&]() -> Expected<std::unique_ptr<Engine>> {
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Models> models, Models::load(options));
    return std::unique_ptr<Engine>(new EngineImpl(std::move(models)));
  });
}

}  // namespace liveavatar
