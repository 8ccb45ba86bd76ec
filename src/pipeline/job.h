// A job with every number settled: what the clip loop runs.
#pragma once

#include <functional>
#include <span>

#include "core/memory.h"
#include "core/mono_source.h"
#include "core/rounding.h"
#include "liveavatar/liveavatar.h"
#include "media/image.h"
#include "plan/job_memory.h"

namespace liveavatar {

constexpr int64_t kHeldFrames =
    3;  // the first frames after the still portrait are not shown; the fourth is held instead

// Of a job, three months of the shortest clips: bytes and samples of a plan stay far from what a number holds.
constexpr int64_t kMostClips = int64_t{1} << 24;

// Frames a clip: infer_frames rounded up to whole blocks.
constexpr int64_t clip_frames(int64_t infer_frames) { return round_up(infer_frames, kBlockFrames); }

// Where a run can be watched or steered: golden_check and tests. All optional.
struct RunHooks {
  std::function<void(int64_t block, std::span<float> noise)> noise;   // instead of seeded noise, [16, 3, h, w]
  std::function<void(int64_t block, const Tensor& latents)> latents;  // finished latents [16, 3, h, w] f32
  std::function<void(const char* name, const Tensor& value)>
      tensor;  // "context", "ref_latent", "audio_features" (a block's)
  std::function<void(std::span<const int32_t> ids)> token_ids;
  int64_t relative_dist = 0;  // 0: drawn from the seed; else fixed for every forward
  bool past_voice = false;    // fill the last clip beyond the voice, as the original does
};

// The numbers of a job. Pixels are multiples of 64.
struct JobPlan {
  JobInfo info;
  int64_t clip_frames = 48;
  int64_t clip_blocks() const { return clip_frames / kBlockFrames; }
  int64_t clip_latents() const { return clip_blocks() * kBlockLatents; }
  int64_t latent_height() const { return info.height / 8; }
  int64_t latent_width() const { return info.width / 8; }
  DitGeometry geometry() const { return {latent_height(), latent_width(), clip_latents(), kBlockLatents}; }
};

// Flags that make no sense: kInvalidArgument, before any file is opened.
Status check_job(const Job& job);

// What the model was trained at: "liveavatar_size" of its config.json; else the original's 704*384.
std::string own_size(const EngineOptions& options);
// The job with a size; a line where the video has much less than the area asked for, else "".
Job with_size(Job job, const EngineOptions& options);
std::string size_note(const Job& job, const JobInfo& info);

// The portrait by its header alone: the size it decides, and what reading and fitting it takes.
struct PortraitPlan {
  PictureInfo picture;
  WorkingSize size;
  size_t bytes = 0;
};
Expected<PortraitPlan> plan_portrait(const std::string& image, const std::string& size, Fit fit);

// The picture as the model sees it, whose size is the video's, and how large it was.
struct Portrait : Image {
  int64_t picture_height = 0, picture_width = 0;  // as it was turned upright, if it was
  int turned_by = 1;                              // Image::orientation of that picture
};
// plan_portrait()'s bytes are charged while it is made.
Expected<Portrait> prepare_portrait(const Job& job, Budget& budget);

struct VoiceLength {
  int64_t frames = 0, clips = 0;  // that cover the voice; by the original's rule
};
JobPlan plan_job(const Job& job, const Image& portrait, const VoiceLength& voice, bool past_voice);

}  // namespace liveavatar
