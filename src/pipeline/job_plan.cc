#include "pipeline/job_plan.h"

#include <algorithm>
#include <cmath>

#include "core/rounding.h"
#include "media/audio.h"
#include "pipeline/actor_masks.h"
#include "pipeline/dit_source.h"
#include "pipeline/pose.h"
#include "pipeline/solver.h"
#include "plan/cures.h"

namespace liveavatar {

PlanRequest request_of(const EngineOptions& options, const ModelShapes& shapes) {
  PlanRequest request;
  request.shapes = shapes;
  request.device = options.device;
  request.dtype = options.dtype;
  request.weights_dtype = options.weights_dtype;
  request.kv_dtype = options.kv_dtype;
  request.int8_products = options.int8_products;
  request.threads = options.threads;
  request.packed = from_packed_file(options);
  request.pack_first = request.packed && options.packed_dit.empty();  // or it was made by an earlier run
  request.disk_rings = !options.paging_dir.empty();
  if (options.offload_kv_cache) request.resident_rings = 0;
  return request;
}

Status check_options(const EngineOptions& options) {
  if (options.offload_kv_cache && options.paging_dir.empty())
    return invalid_argument("--offload_kv_cache: give --paging_dir DIR too, a folder on disk for keys and values");
  return check_int8_products(options.int8_products, options.weights_dtype);
}

Status drop_idle_paging(EngineOptions& options, const Job& job) {
  if (options.paging_dir.empty() || !options.packed_dit.empty()) return {};
  EngineOptions without = options;
  without.page_weights = false;
  LA_ASSIGN_OR_RETURN(PlanRequest request, plan_request(without, job));
  request.disk_rings = false;
  LA_ASSIGN_OR_RETURN(MemoryPlan plan, plan_memory(request));
  if (options.memory_budget_bytes == 0 || plan.peak_bytes <= options.memory_budget_bytes) options = without;
  return {};
}

namespace {

// As ClipLoop finds it.
Expected<size_t> plan_orientation(const Job& job, const std::vector<MaskPictures>& masks, const PlanRequest& request) {
  LA_ASSIGN_OR_RETURN(PictureInfo picture, probe_picture(job.image, true, kWholePicture));
  MaskFit fit{request.picture_height, request.picture_width, {request.height, request.width}, job.fit};
  fit.orientation = picture.turned_unseen ? 0 : 1;
  return orientation_bytes(masks, fit, job.image);
}

// The voices and masks of a job; how long the video is for them, by their files' own word.
Expected<double> plan_voices(const Job& job, PlanRequest& request) {
  const std::vector<std::string> voices = split_voices(job.audio);
  LA_ASSIGN_OR_RETURN(std::vector<MaskPictures> masks, job_masks(job));
  LA_ASSIGN_OR_RETURN(request.first_mask_pixels, largest_mask_pixels(masks));
  request.mask_pixels = masks_move(masks, job.original_speakers) ? request.first_mask_pixels : 0;
  if (voices.size() > 1 && job.fit == Fit::kCover && !job.original_speakers && !job.image.empty()) {
    LA_ASSIGN_OR_RETURN(request.orientation_bytes, plan_orientation(job, masks, request));
  }
  std::vector<double> seconds;
  for (const std::string& path : voices) {
    LA_ASSIGN_OR_RETURN(double one, sound_seconds(path));
    seconds.push_back(one);
  }
  request.voice_samples = std::llround(seconds.front() * kModelRateHz);
  for (size_t i = 1; i < seconds.size(); ++i) request.more_voices.push_back(std::llround(seconds[i] * kModelRateHz));
  auto [shortest, longest] = std::minmax_element(seconds.begin(), seconds.end());
  return job.original_speakers ? *shortest : *longest;
}

}  // namespace

Status plan_job_beside_portrait(const Job& job, WorkingSize size, PlanRequest& request) {
  LA_ASSIGN_OR_RETURN(request.pose, pose_shape(job, size));
  request.clip_frames = clip_frames(job.infer_frames);
  int64_t frames = std::max<int64_t>(job.num_clip, 1) * request.clip_frames;
  if (job.audio.empty()) {
    static_assert(kModelRateHz % kFps == 0);
    request.voice_samples = frames * (kModelRateHz / kFps);
  } else {
    LA_ASSIGN_OR_RETURN(double seconds, plan_voices(job, request));
    int64_t whole = static_cast<int64_t>(std::ceil(seconds * double(kFps)));
    frames = job.num_clip > 0 ? std::min(frames, whole) : whole;
  }
  request.blocks = std::max<int64_t>(1, ceil_div(frames, kBlockFrames));
  request.steps = job.sample_steps;
  LA_ASSIGN_OR_RETURN(SolverKind solver, parse_solver(job.sample_solver));
  request.solver_tensors = solver_history_tensors(solver);
  request.online_decode = job.online_decode;
  request.schedule = job.schedule;
  return {};
}

Expected<PlanRequest> plan_request(const EngineOptions& options, const Job& job) {
  LA_RETURN_IF_ERROR(check_job(job));
  LA_RETURN_IF_ERROR(check_options(options));
  LA_ASSIGN_OR_RETURN(PartPaths paths, find_parts(part_request(options)));
  LA_ASSIGN_OR_RETURN(ModelShapes shapes, read_model_shapes(paths, options.packed_dit));
  PlanRequest request = request_of(options, shapes);
  LA_ASSIGN_OR_RETURN(request.merge_bytes, merge_bytes(paths, options));
  LA_ASSIGN_OR_RETURN(PortraitPlan portrait, plan_portrait(job.image, with_size(job, options).size, job.fit));
  request.picture_height = portrait.picture.height;
  request.picture_width = portrait.picture.width;
  request.portrait_bytes = portrait.bytes;
  request.height = portrait.size.height;
  request.width = portrait.size.width;
  LA_RETURN_IF_ERROR(plan_job_beside_portrait(job, portrait.size, request));
  return request;
}

Status check_load(const EngineOptions& options, const ModelShapes& shapes, size_t merge_bytes) {
  if (options.memory_budget_bytes == 0) return {};
  PlanRequest smallest = request_of(options, shapes);
  smallest.merge_bytes = merge_bytes;
  smallest.height = smallest.width = 64;
  LA_ASSIGN_OR_RETURN(MemoryPlan plan, plan_memory(smallest));
  if (plan.load_peak_bytes <= options.memory_budget_bytes) return {};
  std::string cure = "raise the budget";
  for (const char* narrower : {"q4", "int8"}) {  // the one that loses less is named
    smallest.weights_dtype = narrower;
    smallest.int8_products = false;
    LA_ASSIGN_OR_RETURN(MemoryPlan less, plan_memory(smallest));
    if (less.load_peak_bytes <= options.memory_budget_bytes)
      cure = "raise the budget, or take --weights_dtype " + smallest.weights_dtype +
             (options.int8_products ? " --int8_products=false" : "");
  }
  return out_of_memory("memory budget " + budget_text(options.memory_budget_bytes) +
                       ": loading this checkpoint takes " + mib_text(plan.load_peak_bytes) + "; " + cure);
}

Status check_fits(const PlanRequest& request, size_t budget_bytes) {
  if (budget_bytes == 0) return {};
  LA_ASSIGN_OR_RETURN(MemoryPlan plan, plan_memory(request));
  if (plan.peak_bytes <= budget_bytes) return {};
  const PlanStage& highest = *std::max_element(plan.stages.begin(), plan.stages.end(),
                                               [](auto& a, auto& b) { return a.peak_bytes < b.peak_bytes; });
  LA_ASSIGN_OR_RETURN(std::vector<Cure> cures, find_cures(request, budget_bytes));
  std::string fits;
  for (const Cure& cure : cures)
    fits += (fits.empty() ? "" : ", or ") + cure.flags + " (" + mib_text(cure.peak_bytes) + ")";
  if (highest.name == "portrait") fits += ", or a portrait of fewer pixels";
  return out_of_memory("memory budget " + budget_text(budget_bytes) + ": this job takes " + mib_text(plan.peak_bytes) +
                       " (stage " + highest.name + "); what fits: " + fits);
}

}  // namespace liveavatar
