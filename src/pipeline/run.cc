#include "pipeline/run.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>
#include <utility>

#include "core/boundary.h"
#include "core/bounded_queue.h"
#include "ops/layout.h"
#include "ops/transfer.h"
#include "pipeline/delivery.h"
#include "session/conditioner.h"
#include "session/video_session.h"

namespace liveavatar {

namespace {

// A block whose latents wait to be decoded.
struct DenoisedBlock {
  int64_t block = 0;
  Tensor latents;
  Event done;  // of the backend that samples
};

// Progress and frames on their way to the caller. progress() is called by the threads that sample and decode.
class Output {
 public:
  Output(const JobInfo& info, Delivery& caller) : info_(info), delivery_(&caller) {}
  void progress(Stage stage, int64_t block) {
    delivery_->progress({stage, block, info_.blocks, frames_done_, info_.frames});
  }
  bool complete() const { return frames_done_ == info_.frames; }
  // The next four frames, or as many as are left: [4, H, W, 3] u8.
  Status frames(int64_t block, const uint8_t* rgb) {
    VideoChunk chunk;
    chunk.first_frame = frames_done_;
    chunk.frames = std::min(kVaeFrames, info_.frames - chunk.first_frame);
    chunk.width = info_.width;
    chunk.height = info_.height;
    chunk.rgb = rgb;
    progress(Stage::kWrite, block);
    LA_RETURN_IF_ERROR(delivery_->frames(chunk));
    frames_done_ = chunk.first_frame + chunk.frames;
    if (complete()) progress(Stage::kWrite, block);
    return {};
  }
  // From here on to that one, when no thread is in a call. Returns the one before.
  Delivery& redirect(Delivery& to) { return *std::exchange(delivery_, &to); }

 private:
  const JobInfo& info_;
  Delivery* delivery_;
  std::atomic<int64_t> frames_done_ = 0;
};

// One run of one job; the members are what lives as long as the video. Four parts: the conditioner gives blocks to the
// denoiser, which hands latents to the decoder, which hands frames to the delivery.
class JobRun : LatentChannel, VideoInputs {
 public:
  JobRun(Models& models, ResolvedJob& job, const RunCalls& calls, Delivery& caller)
      : models_(models),
        job_(job),
        calls_(calls),
        output_(job.info, caller),
        session_(models, calls.budget != nullptr ? *calls.budget : *models.budget, job.shape,
                 {.sampling = job.sampling,
                  .cache_folder = models.options().paging_dir,
                  .stop = stop_.get_token(),
                  .black_pose_end = job.job.original_pose}) {}

  Status run() {
    LA_RETURN_IF_ERROR(check_fits(job_));
    LA_RETURN_IF_ERROR(session_.prepare(*this));
    portrait_ = Portrait();
    const Conditioner::Sources sources{audio_, session_.pose(), masks_ ? &*masks_ : nullptr, job_.sampling.seed,
                                       hooks().noise};
    conditioner_ = std::make_unique<Conditioner>(*models_.backend, session_.blocks(), sources);
    return make_video();
  }

 private:
  const JobShape& shape() const { return job_.shape; }
  const RunHooks& hooks() const { return calls_.hooks; }

  Status open(Budget& budget) override {
    LA_ASSIGN_OR_RETURN(portrait_, job_.files.portrait->read(budget));
    audio_ = hooks().audio;
    if (audio_ == nullptr) {
      LA_ASSIGN_OR_RETURN(voices_, FileColumns::open(*models_.audio, budget, job_.files.voices, stop_.get_token()));
      audio_ = voices_.get();
    }
    if (job_.files.masks.empty()) return {};
    return open_masks(budget);
  }

  Status open_masks(Budget& budget) {
    const GenerateRequest& job = job_.job;
    ActorMasks::Options options;
    options.pictures = job_.files.masks;
    options.original = job.original_speakers;
    options.largest_pixels = shape().first_mask_pixels;
    options.fit = {portrait_.image_height, portrait_.image_width, {portrait_.height, portrait_.width}, job.fit};
    if (job.fit == Fit::kCover && !options.original) {
      options.fit.orientation = portrait_.turned_by;
      LA_ASSIGN_OR_RETURN(options.fit.orientation,
                          orientation_for(job_.files.mask_sizes, options.fit, job_.files.portrait->file, budget));
    }
    options.clip_latents = shape().clip_latents();
    options.block_latents = kBlockLatents;
    LA_ASSIGN_OR_RETURN(Charge reading,
                        Charge::acquire(budget, MemoryCategory::kMedia, mask_bytes(options.largest_pixels)));
    LA_ASSIGN_OR_RETURN(masks_, ActorMasks::open(std::move(options)));
    return {};
  }

  void begin(Stage stage) override { output_.progress(stage, 0); }

  Expected<OwnedTensor> prompt(VideoSession& session) override {
    LA_ASSIGN_OR_RETURN(PromptIds prompt, prompt_ids(*models_.checkpoint, job_.job.prompt));
    if (hooks().token_ids) hooks().token_ids(prompt.ids);
    LA_ASSIGN_OR_RETURN(OwnedTensor rows, session.encode_prompt(prompt.ids));
    show("context", rows.tensor, models_.text_backend());
    return rows;
  }

  Expected<StaticImageLatents> portrait(VideoSession& session) override { return session.encode_portrait(portrait_); }
  void reference(const Tensor& latent) override { show("ref_latent", latent); }
  PoseVideo* pose() override { return job_.files.pose.get(); }

  Status make_video() {
    if (shape().decodes_beside()) return make_video_on_two_threads();
    LA_ASSIGN_OR_RETURN(int64_t made, denoise());
    if (shape().online_decode) return {};
    for (int64_t b = 0; b < made; ++b) LA_RETURN_IF_ERROR(decode(b, latents_of(b)));
    return {};
  }

  // The caller's thread delivers, one samples, one decodes; whichever fails stops the others. The threads join at the
  // end of the block, also where a callback threw or the second thread did not start.
  Status make_video_on_two_threads() {
    RelayedDelivery relay;
    Delivery& caller = output_.redirect(relay);
    Status denoised, decoded, delivered;
    {
      std::jthread sampling([&] {
        denoised = contained("generate", [&] { return denoise().status(); });
        denoised_.close();
      });
      try {
        std::jthread decoding([&] {
          decoded = contained("generate", [&] { return decode_as_they_come(); });
          if (!decoded.ok()) end_threads();
          relay.close();
        });
        delivered = contained("generate", [&] { return relay.serve(caller); });
        if (!delivered.ok()) end_threads();
      } catch (...) {  // no second thread
        end_threads();
        throw;
      }
    }
    output_.redirect(caller);
    LA_RETURN_IF_ERROR(delivered);
    LA_RETURN_IF_ERROR(decoded);
    return denoised;
  }

  void end_threads() {
    stop_.request_stop();
    denoised_.close();
  }

  Status decode_as_they_come() {
    while (std::optional<DenoisedBlock> next = denoised_.front()) {
      models_.backend->wait(next->done);
      LA_RETURN_IF_ERROR(check_latents(next->block, next->latents));
      LA_RETURN_IF_ERROR(decode(next->block, next->latents));
      denoised_.pop();
    }
    return {};
  }

  // Adaptive attention sink: from the second clip on the model looks at a latent of its own instead of the portrait's.
  // Returns how many blocks were made.
  Expected<int64_t> denoise() {
    const int64_t first_clip = std::min(job_.info.blocks, shape().clip_blocks());
    LA_ASSIGN_OR_RETURN(int64_t made, session_.denoiser().run(session_.weights(), {0, first_clip}, *this));
    if (made < shape().clip_blocks() || made == job_.info.blocks) return made;
    LA_RETURN_IF_ERROR(session_.prefill());
    const BlockRange rest{first_clip, job_.info.blocks - first_clip};
    LA_ASSIGN_OR_RETURN(int64_t more, session_.denoiser().run(session_.weights(), rest, *this));
    return made + more;
  }

  const Tensor& latents_of(int64_t block) {
    const std::vector<OwnedTensor>& latents = session_.blocks().latents;
    return latents[static_cast<size_t>(block) % latents.size()].tensor;
  }

  Expected<std::optional<BlockStart>> receive(int64_t block) override {
    output_.progress(Stage::kSample, block);
    LA_ASSIGN_OR_RETURN(std::optional<BlockStart> start, conditioner_->block(block));
    if (!start || !hooks().tensor) return start;
    hooks().tensor("audio_features", start->features);
    if (session_.pose() != nullptr) show("pose_latents", start->pose);
    if (masks_) show("actor_masks", start->actor_masks);
    return start;
  }

  // Beside sampling nothing waits here: the next block's work follows at once.
  Status send(int64_t block, const Tensor& latents) override {
    if (block == 0) ops::copy_frames(*models_.backend, latents, session_.blocks().reference.tensor, {0, 0, 1});
    if (shape().decodes_beside()) {
      const bool taken = denoised_.push({block, latents, models_.backend->record()});
      return taken ? Status() : cancelled("stopped on request");
    }
    LA_RETURN_IF_ERROR(check_latents(block, latents));
    return shape().online_decode ? decode(block, latents) : Status();
  }

  // A block before it is handed on.
  Status check_latents(int64_t block, const Tensor& latents) {
    Backend& backend = session_.decoder().backend();
    const Download host(backend, latents);
    LA_RETURN_IF_ERROR(backend.synchronize());
    if (!std::all_of(host.values().begin(), host.values().end(), [](float v) { return std::isfinite(v); })) {
      return corrupt("the model gave values that are not finite; its weights are damaged, or `dtype` f32 is needed");
    }
    if (hooks().latents) hooks().latents(block, host.tensor());
    return {};
  }

  // Latent by latent, so that the first frames of a block are out before the last are decoded.
  Status decode(int64_t block, const Tensor& latents) {
    FrameDecoder& decoder = session_.decoder();
    for (int64_t f = 0; f < kBlockLatents; ++f) {
      if (output_.complete()) return {};
      output_.progress(Stage::kDecode, block);
      LA_ASSIGN_OR_RETURN(const uint8_t* rgb, decoder.decode(latents, f));
      show("frames", decoder.pixels(), decoder.backend());
      LA_RETURN_IF_ERROR(output_.frames(block, rgb));
    }
    return {};
  }

  void show(const char* name, const Tensor& value) { show(name, value, *models_.backend); }
  void show(const char* name, const Tensor& value, Backend& backend) {
    if (hooks().tensor) hooks().tensor(name, Download(backend, value).tensor());
  }

  Models& models_;
  ResolvedJob& job_;
  const RunCalls& calls_;
  Output output_;
  std::stop_source stop_;
  std::stop_callback<std::function<void()>> stop_with_caller_{calls_.stop, [this] { stop_.request_stop(); }};
  Portrait portrait_;  // until it is encoded
  std::unique_ptr<FileColumns> voices_;
  AudioColumns* audio_ = nullptr;
  std::optional<ActorMasks> masks_;  // of several voices
  VideoSession session_;
  std::unique_ptr<Conditioner> conditioner_;
  BoundedQueue<DenoisedBlock> denoised_{1};  // decoded beside the next one's sampling
};

}  // namespace

Status run_job(Models& models, ResolvedJob& job, const RunCalls& calls) {
  DirectDelivery caller(calls.on_chunk, calls.on_progress);
  return JobRun(models, job, calls, caller).run();
}

}  // namespace liveavatar
