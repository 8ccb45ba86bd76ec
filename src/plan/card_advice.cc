#include "plan/card_advice.h"

#include <algorithm>

#include "media/image.h"
#include "plan/resolve_shape.h"

namespace liveavatar {
namespace {

constexpr const char* kSizes[] = {"384*256", "704*384", "1280*720"};
// Types lose more the narrower they are, so a wider one may be this much slower.
constexpr double kNearlyAsFast = 0.95;

struct Types {
  WeightsType weights;
  KvType kv;
};
// From the widest. fp8 takes as much memory as int8.
constexpr Types kTypes[] = {{WeightsType::kBf16, KvType::kBf16}, {WeightsType::kBf16, KvType::kInt8},
                            {WeightsType::kInt8, KvType::kBf16}, {WeightsType::kInt8, KvType::kInt8},
                            {WeightsType::kQ4, KvType::kBf16},   {WeightsType::kQ4, KvType::kInt8}};

Expected<JobShape> job_of(const std::string& size) {
  JobShape job;
  LA_ASSIGN_OR_RETURN(job.shapes, named_model_shapes("14b"));
  job.device = "cuda";
  job.threads = 4;  // as on every machine
  LA_ASSIGN_OR_RETURN(Sides sides, parse_sides(size));
  LA_ASSIGN_OR_RETURN(WorkingSize working, working_size(sides.height, sides.width, sides.area()));
  job.image_height = sides.height;
  job.image_width = sides.width;
  job.height = working.height;
  job.width = working.width;
  job.blocks = 60 * kFps / kBlockFrames;
  return job;
}

class Advisor {
 public:
  Advisor(const DeviceProfile& device, const std::string& size) {
    advice_.device = device;
    advice_.size = size;
    advice_.budget_bytes = device.memory_bytes >> 20 << 20;
  }

  // Nothing is on disk if any types allow that: nobody knows how fast the disk is.
  Expected<CardAdvice> run() {
    LA_ASSIGN_OR_RETURN(const JobShape job, job_of(advice_.size));
    for (const Types& types : kTypes) LA_RETURN_IF_ERROR(plan_without_disk(job, types));
    if (!candidates_.empty()) return widest();
    for (const Types& types : kTypes) LA_RETURN_IF_ERROR(plan_with_disk(job, types));
    return candidates_.empty() ? advice_ : least_on_disk();
  }

 private:
  // With all layers on the card, else with some in host memory.
  Status plan_without_disk(JobShape job, const Types& types) {
    const size_t before = candidates_.size();
    LA_RETURN_IF_ERROR(plan(job, types));
    if (candidates_.size() > before) return {};
    job.packed = job.layers_in_host = true;
    return plan(job, types);
  }

  Status plan_with_disk(JobShape job, const Types& types) {
    job.packed = job.pack_first = job.disk_kv_caches = true;
    return plan(job, types);
  }

  Status plan(JobShape job, const Types& types) {
    job.weights_dtype = types.weights;
    job.kv_dtype = types.kv;
    CardAdvice candidate = advice_;
    const MemoryLimits limits{advice_.budget_bytes, kAdvisedHostBytes};
    LA_ASSIGN_OR_RETURN(candidate.shape, resolve_shape(job, limits));
    LA_ASSIGN_OR_RETURN(candidate.plan, plan_memory(candidate.shape));
    if (!limits.keeps({candidate.plan, {}})) return {};
    candidate.work = work_per_block(candidate.shape, candidate.plan);
    candidate.prediction = predict(candidate.work, advice_.device).value();
    candidate.fits = true;
    candidates_.push_back(std::move(candidate));
    return {};
  }

  // The widest of those that are nearly as fast as the fastest.
  CardAdvice widest() const {
    auto slower = [](const CardAdvice& a, const CardAdvice& b) {
      return a.prediction.frames_per_s() < b.prediction.frames_per_s();
    };
    const auto fastest = std::max_element(candidates_.begin(), candidates_.end(), slower);
    const double enough = kNearlyAsFast * fastest->prediction.frames_per_s();
    return *std::find_if(candidates_.begin(), candidates_.end(),
                         [&](const CardAdvice& c) { return c.prediction.frames_per_s() >= enough; });
  }

  // Writes wear a disk too.
  CardAdvice least_on_disk() const {
    auto less = [](const CardAdvice& a, const CardAdvice& b) { return a.work.disk_bytes < b.work.disk_bytes; };
    return *std::min_element(candidates_.begin(), candidates_.end(), less);
  }

  CardAdvice advice_;                   // nothing fits
  std::vector<CardAdvice> candidates_;  // from the widest types
};

}  // namespace

Expected<std::vector<CardAdvice>> advise_cards() {
  std::vector<CardAdvice> all;
  for (const DeviceProfile& device : card_profiles()) {
    for (const char* size : kSizes) {
      LA_ASSIGN_OR_RETURN(CardAdvice advice, Advisor(device, size).run());
      all.push_back(std::move(advice));
    }
  }
  return all;
}

}  // namespace liveavatar
