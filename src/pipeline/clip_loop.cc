#include "pipeline/clip_loop.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/wan_vae/still.h"
#include "ops/layout.h"
#include "ops/transfer.h"
#include "pipeline/actor_masks.h"
#include "pipeline/frame_decoder.h"
#include "pipeline/job_plan.h"
#include "pipeline/noise.h"
#include "pipeline/pose.h"
#include "pipeline/sampler.h"
#include "pipeline/speakers.h"

namespace liveavatar {

namespace {

// One run of one job; the members are what lives as long as the video.
class ClipLoop {
 public:
  ClipLoop(Models& models, const Job& job, const BlockCallback& on_block, const RunHooks& hooks)
      : models_(models), job_(job), on_block_(on_block), hooks_(hooks) {}

  Status run() {
    LA_RETURN_IF_ERROR(check_job(job_));
    LA_ASSIGN_OR_RETURN(solver_, parse_solver(job_.sample_solver));
    LA_ASSIGN_OR_RETURN(Portrait portrait, prepare_portrait(job_, *models_.budget));
    LA_ASSIGN_OR_RETURN(voices_, Voices::open(*models_.audio, job_));
    plan_ = plan_job(job_, portrait, voices_->length(), hooks_.past_voice);
    LA_RETURN_IF_ERROR(open_masks(portrait));
    LA_RETURN_IF_ERROR(settle());
    size_t writer_bytes = video_writer_bytes(plan_.info.height, plan_.info.width);
    LA_ASSIGN_OR_RETURN(writer_, Charge::take(*models_.budget, Tenant::kMedia, writer_bytes));
    LA_RETURN_IF_ERROR(open_sampler());
    LA_RETURN_IF_ERROR(encode_portrait(portrait));
    LA_RETURN_IF_ERROR(run_blocks());
    for (int64_t b = 0; b < plan_.info.blocks && !job_.online_decode; ++b)
      LA_RETURN_IF_ERROR(deliver(b, latents_of(b)));
    return {};
  }

 private:
  Status open_masks(const Portrait& portrait) {
    LA_ASSIGN_OR_RETURN(std::vector<MaskPictures> pictures, job_masks(job_));
    if (voices_->count() == 1) return {};
    ActorMasks::Options options;
    options.original = job_.original_speakers;
    LA_ASSIGN_OR_RETURN(options.largest_pixels, largest_mask_pixels(pictures));
    mask_pixels_ = masks_move(pictures, options.original) ? options.largest_pixels : 0;
    options.fit = {portrait.picture_height, portrait.picture_width, {portrait.height, portrait.width}, job_.fit};
    if (job_.fit == Fit::kCover && !options.original) {
      options.fit.orientation = portrait.turned_by;
      LA_ASSIGN_OR_RETURN(options.fit.orientation, orientation_for(pictures, options.fit, job_.image, *models_.budget));
    }
    options.pictures = std::move(pictures);
    options.clip_latents = plan_.clip_latents();
    options.block_latents = kBlockLatents;
    LA_ASSIGN_OR_RETURN(Charge reading,
                        Charge::take(*models_.budget, Tenant::kMedia, mask_bytes(options.largest_pixels)));
    LA_ASSIGN_OR_RETURN(masks_, ActorMasks::open(std::move(options)));
    return {};
  }

  // What the planner makes of the job: refused before the first large allocation, with what would fit. The voice's
  // length is known to the sample now.
  Status settle() {
    PlanRequest request = request_of(models_.options, models_.shapes);
    if (models_.options.memory_budget_bytes > 0) {
      LA_ASSIGN_OR_RETURN(request, plan_request(models_.options, job_));
    }
    request.steps = job_.sample_steps;
    request.solver_tensors = solver_history_tensors(solver_);
    request.clip_frames = plan_.clip_frames;
    request.schedule = job_.schedule;
    request.online_decode = job_.online_decode;
    request.voice_samples = voices_->of(0).voice_samples();
    request.more_voices.clear();
    for (size_t i = 1; i < voices_->count(); ++i) request.more_voices.push_back(voices_->of(i).voice_samples());
    request.mask_pixels = mask_pixels_;
    LA_ASSIGN_OR_RETURN(request.pose, pose_shape(job_, {plan_.info.height, plan_.info.width}));
    request.blocks = plan_.info.blocks;
    LA_ASSIGN_OR_RETURN(settled_, liveavatar::settle(request, models_.options.memory_budget_bytes));
    return check_fits(settled_, models_.options.memory_budget_bytes);
  }

  Status open_sampler() {
    progress("text", 0);
    LA_ASSIGN_OR_RETURN(EncodedPrompt prompt, encode_prompt(models_, job_.prompt));
    if (hooks_.token_ids) hooks_.token_ids(prompt.ids);
    if (hooks_.tensor) hooks_.tensor("context", Download(models_.text_backend(), prompt.rows.tensor).tensor());
    DitGeometry geometry = plan_.geometry();
    SamplerOptions options;
    options.solver = solver_;
    options.steps = job_.sample_steps;
    options.shift = job_.sample_shift;
    options.seed = job_.seed;
    options.relative_dist = hooks_.relative_dist;
    options.actors = settled_.actors();
    options.in_flight = settled_.blocks_in_flight();
    options.resident_rings = settled_.resident_rings;
    options.ring_folder = models_.options.paging_dir;
    LA_ASSIGN_OR_RETURN(sampler_, Sampler::open(*models_.dit, *models_.backend, *models_.budget, geometry, options));
    LA_ASSIGN_OR_RETURN(OwnedTensor moved, on_device(models_, std::move(prompt.rows)));
    sampler_->set_prompt(moved.tensor);
    return {};
  }

  Status encode_portrait(const Image& portrait) {
    progress("image", 0);
    Budget& budget = *models_.budget;
    LA_ASSIGN_OR_RETURN(OwnedTensor pixels, OwnedTensor::allocate(budget, Tenant::kConditioning,
                                                                  {3, portrait.height, portrait.width}, DType::kF32));
    image_to_pixels(portrait, Upload(*models_.backend, pixels.tensor).f32());
    LA_ASSIGN_OR_RETURN(still_, encode_still(*models_.vae, pixels.tensor));
    BlocksHeld held = settled_.blocks_held();
    LA_ASSIGN_OR_RETURN(blocks_, BlockMemory::allocate(models_.dit->config(), plan_.geometry(), held, budget));
    // latent 1 of five equal frames
    ops::copy_frames(*models_.backend, still_.first.tensor, blocks_.reference.tensor, {1, 0, 1});
    show("ref_latent", blocks_.reference.tensor);
    LA_ASSIGN_OR_RETURN(pages_, models_.dit->open_pages(settled_.resident(), budget));
    progress("prefill", 0);
    LA_RETURN_IF_ERROR(sampler_->prefill(*pages_, blocks_.reference.tensor, still_.last.tensor));
    LA_ASSIGN_OR_RETURN(decoder_, FrameDecoder::open(*models_.vae, still_.first.tensor, budget));
    if (job_.pose_video.empty()) return {};
    PoseEncoder::Options options{
        job_.pose_video, pose_rule(job_), job_.fit, {portrait.height, portrait.width}, plan_.clip_frames};
    LA_ASSIGN_OR_RETURN(pose_, PoseEncoder::open(*models_.vae, budget, options));
    return {};
  }

  // Adaptive attention sink: from the second clip on the model looks at a latent of its own instead of the portrait's.
  Status run_blocks() {
    const BlockFeed feed{[this](int64_t block) { return start(block); },
                         [this](int64_t block, const Tensor& latents) { return done(block, latents); }};
    int64_t before = std::min(plan_.info.blocks, plan_.clip_blocks());
    LA_RETURN_IF_ERROR(sampler_->run(*pages_, {0, before}, feed));
    if (before == plan_.info.blocks) return {};
    LA_RETURN_IF_ERROR(sampler_->prefill(*pages_, blocks_.reference.tensor, still_.last.tensor));
    return sampler_->run(*pages_, {before, plan_.info.blocks - before}, feed);
  }

  const Tensor& latents_of(int64_t block) const {
    return blocks_.latents[static_cast<size_t>(block) % blocks_.latents.size()].tensor;
  }

  Expected<BlockFeed::Start> start(int64_t block) {
    progress("sample", block);
    const Tensor &features = blocks_.features.tensor, &latents = latents_of(block);
    LA_RETURN_IF_ERROR(voices_->columns(block * kBlockFrames, kBlockFrames, features.host<float>()));
    show("audio_features", features);
    fill_noise_of(block, latents);
    BlockFeed::Start start{features, latents, Tensor(), Tensor()};
    if (pose_) {
      start.pose = blocks_.poses[static_cast<size_t>(block) % blocks_.poses.size()].tensor;
      LA_RETURN_IF_ERROR(pose_->next_block(start.pose));
      show("pose_latents", start.pose);
    }
    if (!blocks_.masks.empty()) {
      start.actor_masks = blocks_.masks[static_cast<size_t>(block) % blocks_.masks.size()].tensor;
      LA_RETURN_IF_ERROR(masks_.block(block, Upload(*models_.backend, start.actor_masks).f32()));
      show("actor_masks", start.actor_masks);
    }
    return start;
  }

  void fill_noise_of(int64_t block, const Tensor& latents) {
    Upload noise(*models_.backend, latents);
    if (hooks_.noise) return hooks_.noise(block, noise.values());
    fill_noise(job_.seed, static_cast<uint64_t>(block), noise.values());
  }

  Status done(int64_t block, const Tensor& latents) {
    const Download host(*models_.backend, latents);
    LA_RETURN_IF_ERROR(models_.backend->synchronize());
    if (!std::all_of(host.values().begin(), host.values().end(), [](float v) { return std::isfinite(v); })) {
      return corrupt("the model gave values that are not finite; its weights are damaged, or --dtype f32 is needed");
    }
    if (block == 0) ops::copy_frames(*models_.backend, latents, blocks_.reference.tensor, {0, 0, 1});
    if (hooks_.latents) hooks_.latents(block, host.tensor());
    return job_.online_decode ? deliver(block, latents) : Status();
  }

  // Latent by latent, so that the first frames of a block are out before the last are decoded.
  Status deliver(int64_t block, const Tensor& latents) {
    for (int64_t f = 0; f < kBlockLatents && frames_done_ < plan_.info.frames; ++f)
      LA_RETURN_IF_ERROR(deliver_latent(block, latents, f));
    return {};
  }

  Status deliver_latent(int64_t block, const Tensor& latents, int64_t latent) {
    progress("decode", block);
    LA_ASSIGN_OR_RETURN(const uint8_t* rgb, decoder_->decode(latents, latent));
    show("frames", decoder_->pixels());
    VideoBlock out;
    out.first_frame = frames_done_;
    out.frames = std::min(kVaeFrames, plan_.info.frames - out.first_frame);
    out.width = plan_.info.width;
    out.height = plan_.info.height;
    out.rgb = rgb;
    progress("write", block);
    bool go_on = on_block_(out);
    frames_done_ = out.first_frame + out.frames;
    if (frames_done_ == plan_.info.frames) progress("write", block);
    return go_on ? Status() : cancelled("stopped on request");
  }

  void progress(const char* stage, int64_t block) {
    if (!job_.on_progress) return;
    job_.on_progress({stage, block, plan_.info.blocks, frames_done_, plan_.info.frames});
  }

  void show(const char* name, const Tensor& value) {
    if (hooks_.tensor) hooks_.tensor(name, Download(*models_.backend, value).tensor());
  }

  Models& models_;
  const Job& job_;
  const BlockCallback& on_block_;
  const RunHooks& hooks_;
  JobPlan plan_;
  PlanRequest settled_;
  SolverKind solver_ = SolverKind::kEuler;
  std::unique_ptr<Voices> voices_;
  ActorMasks masks_;  // of several voices
  int64_t mask_pixels_ = 0;
  std::unique_ptr<Sampler> sampler_;
  std::unique_ptr<DitPages> pages_;  // the layers' weights
  std::unique_ptr<FrameDecoder> decoder_;
  std::unique_ptr<PoseEncoder> pose_;  // null: no pose video
  StillLatents still_;
  BlockMemory blocks_;
  Charge writer_;  // the video file that callers write beside the job
  int64_t frames_done_ = 0;
};

}  // namespace

Status run_job(Models& models, const Job& job, const BlockCallback& on_block, const RunHooks& hooks) {
  return ClipLoop(models, job, on_block, hooks).run();
}

}  // namespace liveavatar
