#include "pipeline/job.h"

#include <algorithm>
#include <cmath>

#include "core/rounding.h"

namespace liveavatar {

Status check_job(const Job& job) {
  if (job.sample_steps < 1 || job.sample_steps > 50) {
    return invalid_argument("--sample_steps " + std::to_string(job.sample_steps) + ": choose 1 to 50");
  }
  if (job.infer_frames < 1 || job.infer_frames > 4800) {
    return invalid_argument("--infer_frames " + std::to_string(job.infer_frames) +
                            ": choose 12 to 4800, a multiple of 12");
  }
  if (job.schedule != "auto" && job.schedule != "sequential" && job.schedule != "wavefront")
    return invalid_argument("--schedule " + job.schedule + ": choose auto, sequential or wavefront");
  if (job.num_clip < 0) return invalid_argument("--num_clip must be positive");
  if (!std::isfinite(job.sample_shift) || job.sample_shift <= 0)
    return invalid_argument("--sample_shift must be positive");
  return parse_size(job.size).status();
}

namespace {

// Code and tables of the decoders, touched here for the first time: a fit to runs (docs/plan.md).
constexpr size_t kDecoderBytes = size_t{13} << 20;

}  // namespace

Expected<PortraitPlan> plan_portrait(const std::string& image, const std::string& size, Fit fit) {
  PortraitPlan plan;
  LA_ASSIGN_OR_RETURN(int64_t area, parse_size(size));
  LA_ASSIGN_OR_RETURN(plan.picture, probe_picture(image, fit == Fit::kCover, area));
  LA_ASSIGN_OR_RETURN(plan.size, working_size(plan.picture.height, plan.picture.width, area));
  plan.bytes = kDecoderBytes +
               std::max(plan.picture.decode_bytes, plan.picture.image_bytes + fit_bytes(plan.picture, plan.size, fit));
  return plan;
}

Expected<Image> prepare_portrait(const Job& job, Budget& budget) {
  LA_ASSIGN_OR_RETURN(PortraitPlan plan, plan_portrait(job.image, job.size, job.fit));
  auto charge = Charge::take(budget, Tenant::kMedia, plan.bytes);
  if (!charge.ok())
    return out_of_memory(job.image + ": " + charge.status().message() + "; take a portrait of fewer pixels");
  LA_ASSIGN_OR_RETURN(int64_t area, parse_size(job.size));
  LA_ASSIGN_OR_RETURN(Image image, read_image(job.image, job.fit == Fit::kCover, area));
  return fit_image(image, plan.size, job.fit);
}

JobPlan plan_job(const Job& job, const Image& portrait, const AudioFeatures& voice, bool past_voice) {
  JobPlan plan;
  plan.clip_frames = clip_frames(job.infer_frames);
  plan.info.width = portrait.width;
  plan.info.height = portrait.height;
  plan.info.fps = kFps;
  int64_t frames = past_voice ? voice.clips() * plan.clip_frames : voice.voice_frames();
  if (job.num_clip > 0) frames = std::min(frames, job.num_clip * plan.clip_frames);
  plan.info.frames = std::max<int64_t>(frames, 1);
  plan.info.blocks = ceil_div(plan.info.frames, kBlockFrames);
  plan.info.clips = ceil_div(plan.info.frames, plan.clip_frames);
  return plan;
}

}  // namespace liveavatar
