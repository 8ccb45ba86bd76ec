#include "pipeline/resolve.h"

#include <algorithm>
#include <cstdio>

#include "core/size_text.h"
#include "core/text.h"
#include "core/utf8.h"
#include "ops/make_backend.h"
#include "plan/suggestions.h"
#include "plan/work.h"
#include "session/actor_masks.h"
#include "session/check_field.h"
#include "session/solver.h"

namespace liveavatar {
namespace {

Status check_utf8(const std::string& prompt) {
  size_t bad = first_not_utf8(prompt);
  if (bad == std::string::npos) return {};
  char byte[8];
  std::snprintf(byte, sizeof(byte), "0x%02X", static_cast<unsigned char>(prompt[bad]));
  return invalid_argument("`prompt`: byte " + std::to_string(bad + 1) + " (" + byte +
                          ") is not UTF-8; save the text as UTF-8 (iconv -f GBK -t UTF-8 for a Chinese one)");
}

Status check_paths(const GenerateRequest& job) {
  LA_RETURN_IF_ERROR(check_path("`image`", job.image));
  LA_RETURN_IF_ERROR(check_path("`audio`", job.audio));
  LA_RETURN_IF_ERROR(check_path("`pose_video`", job.pose_video));
  for (const std::string& mask : job.masks) LA_RETURN_IF_ERROR(check_path("`masks`", mask));
  return {};
}

}  // namespace

Status check_job(const GenerateRequest& job) {
  LA_RETURN_IF_ERROR(check_paths(job));
  LA_RETURN_IF_ERROR(check_choice("`sample_solver`", job.sample_solver, SampleSolver::kDpmPlusPlus));
  LA_RETURN_IF_ERROR(check_choice("`schedule`", job.schedule, Schedule::kWavefront));
  LA_RETURN_IF_ERROR(check_choice("`check_finite`", job.check_finite, CheckFinite::kLayer));
  LA_RETURN_IF_ERROR(check_choice("`on_nan`", job.on_nan, OnNan::kRetry));
  LA_RETURN_IF_ERROR(check_choice("`fit`", job.fit, Fit::kOriginal));
  LA_RETURN_IF_ERROR(check_choice("`video_encoder`", job.video_encoder, VideoEncoder::kNvenc));
  LA_RETURN_IF_ERROR(make_schedule(job.sample_solver, job.sample_steps, job.sample_shift).status());
  if (job.infer_frames < 1 || job.infer_frames > 4800) {
    return invalid_argument("`infer_frames` " + std::to_string(job.infer_frames) +
                            ": choose 12 to 4800, a multiple of 12");
  }
  if (job.num_clip < 0 || job.num_clip > kMostClips) {
    return invalid_argument("`num_clip` " + std::to_string(job.num_clip) + ": choose 1 to " +
                            std::to_string(kMostClips) + ", or leave it out for the whole voice");
  }
  LA_RETURN_IF_ERROR(check_utf8(job.prompt));
  return job.size.empty() ? Status() : parse_size(job.size).status();
}

namespace {

// The portrait's shape at the job's size, or that of the size itself.
Status shape_image(const GenerateRequest& job, const JobFiles& files, JobShape& shape) {
  if (files.portrait) {
    shape.image_height = files.portrait->picture.height;
    shape.image_width = files.portrait->picture.width;
    shape.portrait_bytes = files.portrait->bytes;
    shape.height = files.portrait->size.height;
    shape.width = files.portrait->size.width;
    return {};
  }
  LA_ASSIGN_OR_RETURN(Sides sides, parse_sides(job.size));
  shape.image_height = sides.height;
  shape.image_width = sides.width;
  LA_ASSIGN_OR_RETURN(WorkingSize size, working_size(sides.height, sides.width, sides.area()));
  shape.height = size.height;
  shape.width = size.width;
  return {};
}

MaskFit mask_fit(const GenerateRequest& job, const JobShape& shape, int orientation) {
  return {shape.image_height, shape.image_width, {shape.height, shape.width}, job.fit, orientation};
}

Status shape_masks(const GenerateRequest& job, const JobFiles& files, JobShape& shape) {
  if (files.masks.empty()) return {};
  shape.first_mask_pixels = largest_pixels(files.mask_sizes);
  shape.mask_pixels = masks_move(files.masks, job.original_speakers) ? shape.first_mask_pixels : 0;
  if (job.fit != Fit::kCover || job.original_speakers || !files.portrait) return {};
  LA_ASSIGN_OR_RETURN(ImageInfo whole, files.portrait->file.probe(true, kWholeImage));
  const MaskFit fit = mask_fit(job, shape, whole.turned_unseen ? 0 : 1);
  LA_ASSIGN_OR_RETURN(shape.orientation_bytes, orientation_bytes(files.mask_sizes, fit, files.portrait->file));
  return {};
}

// Frames of the longest voice; of the shortest with GenerateRequest::original_speakers. 0: there is no voice.
int64_t frames_of(const GenerateRequest& job, const std::vector<Voice>& voices, bool past_voice) {
  int64_t frames = 0;
  for (const Voice& voice : voices) {
    const int64_t clip = clip_frames(job.infer_frames);
    const int64_t one =
        past_voice ? voice_clips(voice.samples(), clip, kFps) * clip : voice_frames(voice.samples(), kFps);
    const bool first = &voice == &voices.front();
    const int64_t other = job.original_speakers ? std::min(frames, one) : std::max(frames, one);
    frames = first ? one : other;
  }
  return frames;
}

void shape_length(const ResolvedJob& job, bool past_voice, JobShape& shape, JobInfo& info) {
  shape.clip_frames = clip_frames(job.job.infer_frames);
  const int64_t clips = std::max<int64_t>(job.job.num_clip, 1);
  int64_t frames = clips * shape.clip_frames;
  shape.more_voices.clear();
  if (job.files.voices.empty()) {
    static_assert(kModelRateHz % kFps == 0);
    shape.voice_samples = frames * (kModelRateHz / kFps);
  } else {
    const int64_t voiced = frames_of(job.job, job.files.voices, past_voice);
    frames = job.job.num_clip > 0 ? std::min(frames, voiced) : voiced;
    shape.voice_samples = job.files.voices.front().samples();
    for (size_t i = 1; i < job.files.voices.size(); ++i) shape.more_voices.push_back(job.files.voices[i].samples());
  }
  info.frames = std::max<int64_t>(frames, 1);
  info.blocks = ceil_div(info.frames, kBlockFrames);
  info.clips = ceil_div(info.frames, shape.clip_frames);
  shape.blocks = info.blocks;
}

// Which rank does what.
Status place(const GenerateRequest& job, JobShape& shape) {
  const double beside = lead_steps(work_per_block(shape, {}), shape.steps);
  LA_ASSIGN_OR_RETURN(shape.placement, place_ranks(shape.ranks, shape.steps, beside));
  const Placement& placement = shape.placement;
  if (placement.stages.size() > 1 && job.sample_solver != SampleSolver::kEuler)
    return unsupported("`sample_solver` " + std::string(sample_solver_name(job.sample_solver)) +
                       ": it remembers a block's steps, so they cannot be dealt to several devices; choose euler, or "
                       "`ulysses_size` as large as `num_gpus_dit`");
  const int64_t most = std::min(shape.shapes.dit.heads, shape.geometry().latent_tokens());
  if (placement.ulysses_size > most)
    return invalid_argument("`ulysses_size` " + std::to_string(placement.ulysses_size) + ": this model has " +
                            std::to_string(shape.shapes.dit.heads) + " heads and the video " +
                            std::to_string(shape.geometry().latent_tokens()) + " tokens a frame; choose up to " +
                            std::to_string(most));
  shape.rank = placement.part(0);
  return {};
}

// The numbers that follow from the voices, and what the planner makes of them.
Status decide(ResolvedJob& job) {
  shape_length(job, job.past_voice, job.asked, job.info);
  LA_ASSIGN_OR_RETURN(job.shape, resolve_shape(job.asked, job.limits));
  LA_RETURN_IF_ERROR(check_retry(job.shape, job.sampling));
  LA_ASSIGN_OR_RETURN(job.plan, plan_memory(job.shape));
  return {};
}

}  // namespace

MemoryLimits limits_of(const EngineOptions& options) {
  return {options.memory_budget_bytes, options.host_budget_bytes};
}

ResolveOptions resolve_options(const Checkpoint& checkpoint) {
  const EngineOptions& options = checkpoint.options;
  return {checkpoint.shape(), checkpoint.video_size(), limits_of(options)};
}

Expected<ResolvedJob> resolve(const ResolveOptions& options, const GenerateRequest& job) {
  ResolvedJob resolved;
  resolved.job = job;
  if (job.size.empty()) resolved.job.size = options.video_size;
  LA_RETURN_IF_ERROR(check_job(resolved.job));
  LA_ASSIGN_OR_RETURN(resolved.files, JobFiles::open(resolved.job));
  resolved.sampling = {.solver = job.sample_solver,
                       .shift = job.sample_shift,
                       .seed = job.seed,
                       .check_finite = job.check_finite,
                       .on_nan = job.on_nan};
  resolved.limits = options.limits;
  JobShape& shape = resolved.asked;
  shape = options.models;
  LA_RETURN_IF_ERROR(shape_image(resolved.job, resolved.files, shape));
  if (resolved.files.pose) {
    const PoseVideoInfo& pose = resolved.files.pose->info();
    shape.pose = {pose.height, pose.width, {shape.height, shape.width}, job.fit};
  }
  LA_RETURN_IF_ERROR(shape_masks(job, resolved.files, shape));
  shape.steps = job.sample_steps;
  shape.solver_tensors = solver_history_tensors(job.sample_solver);
  shape.online_decode = job.online_decode;
  shape.schedule = job.schedule;
  LA_RETURN_IF_ERROR(place(job, shape));
  resolved.info.width = shape.width;
  resolved.info.height = shape.height;
  resolved.info.fps = kFps;
  const std::optional<int> card = card_index(shape.device);
  const bool on_host = job.video_encoder == VideoEncoder::kAuto && !card;
  resolved.info.video_encoder = on_host ? VideoEncoder::kCpu : job.video_encoder;
  resolved.info.video_card = card.value_or(-1);
  LA_RETURN_IF_ERROR(decide(resolved));
  return resolved;
}

namespace {

// Where the video has much less than the area asked for.
std::string size_note(const ResolvedJob& job) {
  constexpr double kMuchLess = 0.75;
  const JobInfo& info = job.info;
  auto area = parse_size(job.job.size);
  if (!area.ok() || double(info.width * info.height) >= kMuchLess * double(*area)) return "";
  return "`size` \"" + job.job.size + "\": the video is " + std::to_string(info.width) + "x" +
         std::to_string(info.height) + ", as its sides are multiples of 64 and the portrait is not enlarged";
}

// Where the pose video is shorter than the video: what is shown then.
std::string pose_note(const ResolvedJob& job) {
  if (!job.files.pose) return "";
  const double seconds = job.files.pose->info().seconds, wanted = double(job.info.frames) / double(kFps);
  if (seconds <= 0 || seconds >= wanted - 0.5 / double(kFps)) return "";
  char text[160];
  std::snprintf(text, sizeof(text), "the pose video ends at %.1f s, the voice at %.1f s: %s", seconds, wanted,
                job.job.original_pose ? "black frames follow it" : "its last pose is held");
  return text;
}

}  // namespace

Status hear(ResolvedJob& job, const HearOptions& options) {
  job.info.notes.clear();
  for (Voice& voice : job.files.voices) {
    LA_RETURN_IF_ERROR(voice.hear(options.stop));
    const std::vector<std::string> notes = voice.notes();
    for (const std::string& note : notes) job.info.notes.push_back(one_line(note));
  }
  job.past_voice = options.past_voice;
  LA_RETURN_IF_ERROR(decide(job));
  for (const std::string& note : {size_note(job), pose_note(job)})
    if (!note.empty()) job.info.notes.push_back(one_line(note));
  return {};
}

Status drop_idle_paging(EngineOptions& options, ResolvedJob& job) {
  if (!options.packed_dit.empty() || !job.asked.packed) return {};
  JobShape whole = job.asked;
  whole.packed = whole.pack_first = whole.layers_in_host = whole.disk_kv_caches = false;
  LA_ASSIGN_OR_RETURN(whole, resolve_shape(whole, job.limits));
  LA_ASSIGN_OR_RETURN(SessionsPlan plan, plan_sessions(whole, 1));
  if (!job.limits.keeps(plan)) return {};
  options.page_weights = false;
  job.asked.packed = job.asked.pack_first = job.asked.layers_in_host = false;
  return decide(job);
}

namespace {

// Host memory beside a card. `what` takes so much.
Status check_host(const std::string& what, size_t bytes, const JobShape& shape, size_t budget_bytes) {
  if (budget_bytes == 0 || bytes <= budget_bytes) return {};
  const bool needs_no_folder = shape.layers_in_host || (shape.host_kv_caches > 0 && !shape.disk_kv_caches);
  return out_of_memory("`host_budget_bytes` " + limit_text(budget_bytes) + ": " + what + " takes " +
                       need_text(bytes, budget_bytes) + " of host memory beside the card; raise it" +
                       (needs_no_folder ? ", or give `paging_dir` DIR, a folder on disk" : ""));
}

}  // namespace

Status check_load(const Checkpoint& checkpoint) {
  const EngineOptions& options = checkpoint.options;
  if (options.memory_budget_bytes == 0 && options.host_budget_bytes == 0) return {};
  JobShape smallest = checkpoint.shape();
  smallest.height = smallest.width = 64;
  LA_ASSIGN_OR_RETURN(MemoryPlan plan, plan_memory(smallest));
  LA_RETURN_IF_ERROR(
      check_host("loading this checkpoint", plan.host.load_peak_bytes, smallest, options.host_budget_bytes));
  if (options.memory_budget_bytes == 0) return {};
  if (plan.load_peak_bytes <= options.memory_budget_bytes) return {};
  std::string suggestion = "raise the budget";
  if (plan.load_peak_bytes - std::min(plan.load_peak_bytes, options.cache_bytes) <= options.memory_budget_bytes)
    suggestion += ", or take less `cache_bytes`";
  for (WeightsType narrower : {WeightsType::kQ4, WeightsType::kInt8}) {  // the one that loses less is named
    smallest.weights_dtype = narrower;
    smallest.int8_products = false;
    LA_ASSIGN_OR_RETURN(MemoryPlan less, plan_memory(smallest));
    if (less.load_peak_bytes <= options.memory_budget_bytes)
      suggestion = std::string("raise the budget, or take `weights_dtype` ") + weights_type_name(narrower) +
                   (options.int8_products ? " + `int8_products` false" : "");
  }
  return out_of_memory("memory budget " + limit_text(options.memory_budget_bytes) + ": loading this checkpoint takes " +
                       need_text(plan.load_peak_bytes, options.memory_budget_bytes) + "; " + suggestion);
}

Status check_fits(const ResolvedJob& job) {
  const MemoryPlan& plan = job.plan;
  LA_RETURN_IF_ERROR(check_host("this job", plan.host.peak_bytes, job.shape, job.limits.host_bytes));
  const size_t budget_bytes = job.limits.device_bytes;
  if (budget_bytes == 0 || plan.peak_bytes <= budget_bytes) return {};
  const PlanStage& highest = *std::max_element(plan.stages.begin(), plan.stages.end(),
                                               [](auto& a, auto& b) { return a.peak_bytes < b.peak_bytes; });
  LA_ASSIGN_OR_RETURN(std::vector<Suggestion> suggestions, find_suggestions(job.asked, job.limits));
  std::string fits;
  for (const Suggestion& suggestion : suggestions)
    fits += (fits.empty() ? "" : ", or ") + suggestion.settings + " (" +
            need_text(suggestion.peak_bytes, budget_bytes) + ")";
  if (highest.name == "portrait") fits += ", or a portrait of fewer pixels";
  return out_of_memory("memory budget " + limit_text(budget_bytes) + ": this job takes " +
                       need_text(plan.peak_bytes, budget_bytes) + " (stage " + highest.name + "); what fits: " + fits);
}

}  // namespace liveavatar
