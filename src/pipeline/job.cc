#include "pipeline/job.h"

#include <algorithm>
#include <cstdio>

#include "core/rounding.h"
#include "core/utf8.h"
#include "pipeline/solver.h"

namespace liveavatar {

namespace {

Status check_utf8(const std::string& prompt) {
  size_t bad = first_not_utf8(prompt);
  if (bad == std::string::npos) return {};
  char byte[8];
  std::snprintf(byte, sizeof(byte), "0x%02X", static_cast<unsigned char>(prompt[bad]));
  return invalid_argument("--prompt: byte " + std::to_string(bad + 1) + " (" + byte +
                          ") is not UTF-8; save the text as UTF-8 (iconv -f GBK -t UTF-8 for a Chinese one)");
}

}  // namespace

Status check_job(const Job& job) {
  LA_ASSIGN_OR_RETURN(SolverKind solver, parse_solver(job.sample_solver));
  LA_RETURN_IF_ERROR(make_schedule(solver, job.sample_steps, job.sample_shift).status());
  if (job.infer_frames < 1 || job.infer_frames > 4800) {
    return invalid_argument("--infer_frames " + std::to_string(job.infer_frames) +
                            ": choose 12 to 4800, a multiple of 12");
  }
  if (job.schedule != "auto" && job.schedule != "sequential" && job.schedule != "wavefront")
    return invalid_argument("--schedule " + job.schedule + ": choose auto, sequential or wavefront");
  if (job.num_clip < 0) return invalid_argument("--num_clip must be positive");
  LA_RETURN_IF_ERROR(check_utf8(job.prompt));
  return parse_size(job.size).status();
}

Expected<Portrait> prepare_portrait(const Job& job) {
  bool upright = job.fit == Fit::kCover;
  LA_ASSIGN_OR_RETURN(Image image, read_image(job.image, upright));
  LA_ASSIGN_OR_RETURN(int64_t area, parse_size(job.size));
  LA_ASSIGN_OR_RETURN(WorkingSize size, working_size(image.height, image.width, area));
  return Portrait{fit_image(image, size, job.fit), image.height, image.width};
}

JobPlan plan_job(const Job& job, const Image& portrait, const VoiceLength& voice, bool past_voice) {
  JobPlan plan;
  plan.clip_frames = clip_frames(job.infer_frames);
  plan.info.width = portrait.width;
  plan.info.height = portrait.height;
  plan.info.fps = kFps;
  int64_t frames = past_voice ? voice.clips * plan.clip_frames : voice.frames;
  if (job.num_clip > 0) frames = std::min(frames, job.num_clip * plan.clip_frames);
  plan.info.frames = std::max<int64_t>(frames, 1);
  plan.info.blocks = ceil_div(plan.info.frames, kBlockFrames);
  plan.info.clips = ceil_div(plan.info.frames, plan.clip_frames);
  return plan;
}

}  // namespace liveavatar
