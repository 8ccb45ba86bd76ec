#include "cli/job_flags.h"

#include "cli/flags.h"
#include "pipeline/resolve.h"
#include "session/solver.h"

namespace liveavatar::cli {
namespace {

// Who speaks, and where they are.
void add_speakers(CLI::App& app, JobFlags& f) {
  app.add_option("--image", f.job.image, "The portrait: any image file FFmpeg or libheif reads")->group("What to make");
  app.add_option("--audio", f.job.audio,
                 "The voice: any audio file FFmpeg reads, of any length; several speakers: left.wav+right.wav")
      ->group("What to make");
  app.add_option(
         "--mask", f.job.masks,
         "Where each of several speakers is, in the voices' order: a PNG each that is not black there (a folder\n"
         "of PNGs each: one a frame), or one folder with subfolders 1, 2, ...")
      ->expected(1, -1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group("What to make");
  app.add_option("--speakers", f.speakers,
                 "fitted: masks are cropped with the portrait and move, the longest voice ends the video; original:\n"
                 "the Python original's rule: masks resized, the first ones always, the shortest voice ends it")
      ->check(CLI::IsMember({"fitted", "original"}))
      ->capture_default_str()
      ->group("What to make");
}

void add_movement(CLI::App& app, JobFlags& f) {
  app.add_option("--pose_video", f.job.pose_video, "A video whose frames steer the movement: poses drawn on black")
      ->group("What to make");
  app.add_option("--pose_frames", f.pose_frames,
                 "resampled: at 25 frames a second, the last pose held; original: the Python original's rule,\n"
                 "every round(fps / 25)-th frame, black frames behind the end")
      ->check(CLI::IsMember({"resampled", "original"}))
      ->capture_default_str()
      ->group("What to make");
}

// The sentence, the shape and the length.
void add_video(CLI::App& app, JobFlags& f) {
  app.add_option("--prompt", f.job.prompt, "A sentence that describes the person and the scene")->group("What to make");
  app.add_option("--size", f.job.size,
                 "An area, as \"width*height\": the portrait's aspect decides the shape,\nsides are multiples of 64\n"
                 "(default: the model's own, \"liveavatar_size\" of its config.json, or 704*384)")
      ->group("What to make");
  app.add_option("--fit", f.fit,
                 "cover: the portrait fills the frame, upright; original: the Python original's rule,\n"
                 "which can leave black bars and ignores EXIF rotation")
      ->check(CLI::IsMember({"cover", "original"}))
      ->capture_default_str()
      ->group("What to make");
  app.add_option("--num_clip", f.job.num_clip,
                 "At most this many clips of --infer_frames frames (default: as long as the voice)")
      ->check(CLI::Range(int64_t{1}, kMostClips))
      ->group("What to make");
  app.add_option("--infer_frames", f.job.infer_frames, "Frames a clip; rounded up to a multiple of 12")
      ->check(CLI::Range(1, 4800))
      ->capture_default_str()
      ->group("What to make");
}

void add_sampling(CLI::App& app, JobFlags& f) {
  app.add_option("--sample_steps", f.job.sample_steps, "Denoising steps a block")
      ->check(CLI::Range(1, kMostSteps))
      ->capture_default_str()
      ->group("Sampling");
  app.add_option("--sample_shift", f.job.sample_shift, "Flow-matching shift (the original always uses 3)")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str()
      ->group("Sampling");
  add_sample_solver(app, f.job.sample_solver)->group("Sampling");
  add_seed(app, f.job.seed)->group("Sampling");
  app.add_flag("--enable_online_decode", f.online_decode,
               "Decode, encode and release each block as it is ready (the default)")
      ->group("Sampling");
  app.add_flag("--no_online_decode", f.no_online_decode,
               "Keep all latents and decode at the end, as the original does without its flag")
      ->group("Sampling");
}

}  // namespace

void add_job_flags(CLI::App& app, JobFlags& flags) {
  add_speakers(app, flags);
  add_movement(app, flags);
  add_video(app, flags);
  add_sampling(app, flags);
  add_schedule(app, flags.job.schedule,
               "wavefront: several blocks in flight, weights read less often, the same video; sequential;\n"
               "auto: wavefront where weights are paged")
      ->group("Model and machine");
  add_check_finite(app, flags.job.check_finite)->group("Model and machine");
  add_on_nan(app, flags.job.on_nan)->group("Model and machine");
  add_video_encoder(app, flags.job.video_encoder)->group("Model and machine");
}

Status resolve_job(JobFlags& f) {
  if (f.online_decode && f.no_online_decode)
    return invalid_argument("--enable_online_decode and --no_online_decode contradict each other; leave one out");
  f.job.online_decode = !f.no_online_decode;
  f.job.fit = f.fit == "original" ? Fit::kOriginal : Fit::kCover;
  f.job.original_pose = f.pose_frames == "original";
  f.job.original_speakers = f.speakers == "original";
  return {};
}

}  // namespace liveavatar::cli
