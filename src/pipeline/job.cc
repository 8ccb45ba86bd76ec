#include "pipeline/job.h"

#include <algorithm>
#include <cstdio>

#include "core/rounding.h"
#include "core/utf8.h"
#include "pipeline/dit_source.h"
#include "pipeline/solver.h"
#include "weights/file_kind.h"
#include "weights/find_parts.h"

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
  if (job.num_clip < 0 || job.num_clip > kMostClips) {
    return invalid_argument("--num_clip " + std::to_string(job.num_clip) + ": choose 1 to " +
                            std::to_string(kMostClips) + ", or leave it out for the whole voice");
  }
  LA_RETURN_IF_ERROR(check_utf8(job.prompt));
  return job.size.empty() ? Status() : parse_size(job.size).status();
}

std::string own_size(const EngineOptions& options) {
  constexpr const char* kSize = "704*384";
  auto paths = find_video_model(part_request(options));
  if (!paths.ok() || paths->dit_config.empty()) return kSize;  // whoever needs the model says what it lacks
  auto config = read_json_file(paths->dit_config);
  constexpr const char* kKey = "liveavatar_size";
  const bool says = config.ok() && config->is_object() && config->contains(kKey) && (*config)[kKey].is_string();
  return says ? (*config)[kKey].get<std::string>() : kSize;
}

Job with_size(Job job, const EngineOptions& options) {
  if (job.size.empty()) job.size = own_size(options);
  return job;
}

std::string size_note(const Job& job, const JobInfo& info) {
  constexpr double kMuchLess = 0.75;
  auto area = parse_size(job.size);
  if (!area.ok() || double(info.width * info.height) >= kMuchLess * double(*area)) return "";
  return "--size \"" + job.size + "\": the video is " + std::to_string(info.width) + "x" + std::to_string(info.height) +
         ", as its sides are multiples of 64 and the portrait is not enlarged";
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

Expected<Portrait> prepare_portrait(const Job& job, Budget& budget) {
  LA_ASSIGN_OR_RETURN(PortraitPlan plan, plan_portrait(job.image, job.size, job.fit));
  auto charge = Charge::take(budget, Tenant::kMedia, plan.bytes);
  if (!charge.ok())
    return out_of_memory(job.image + ": " + charge.status().message() + "; take a portrait of fewer pixels");
  LA_ASSIGN_OR_RETURN(int64_t area, parse_size(job.size));
  LA_ASSIGN_OR_RETURN(Image image, read_image(job.image, job.fit == Fit::kCover, area));
  return Portrait{fit_image(image, plan.size, job.fit), plan.picture.height, plan.picture.width, image.orientation};
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
