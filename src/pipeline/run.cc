#include "pipeline/run.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "core/boundary.h"
#include "core/bounded_queue.h"
#include "core/stop.h"
#include "ops/layout.h"
#include "ops/transfer.h"
#include "pipeline/delivery.h"
#include "pipeline/lead_link.h"
#include "session/conditioner.h"
#include "session/video_session.h"

namespace liveavatar {

namespace {

// A block whose latents wait to be decoded.
struct DenoisedBlock {
  int64_t block = 0;
  Tensor latents;  // empty: they come from another rank
  Event done;      // of the backend that samples
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
        link_(calls.ranks == nullptr ? nullptr : std::make_unique<LeadLink>(*calls.ranks, job.shape.placement)),
        session_(models, calls.budget != nullptr ? *calls.budget : *models.budget, job.shape,
                 {.sampling = job.sampling,
                  .cache_folder = models.options().paging_dir,
                  .stop = stop_.get_token(),
                  .stage = link_ == nullptr ? nullptr : link_->stage(),
                  .black_pose_end = job.job.original_pose}) {
    if (link_ != nullptr) link_->group().on_failure([this] { stop_.request_stop(); });
  }
  ~JobRun() override {
    if (link_ != nullptr) link_->group().on_failure(nullptr);
  }

  Status run() {
    LA_RETURN_IF_ERROR(check_fits(job_));
    if (link_ != nullptr) LA_RETURN_IF_ERROR(link_->announce(shape(), job_.sampling));
    LA_RETURN_IF_ERROR(session_.prepare(*this));
    portrait_ = Portrait();
    if (link_ != nullptr) {
      link_->open(session_, *models_.backend);
      waited_before_s_ = link_->group().waited_s();
    }
    const Conditioner::Sources sources{audio_, session_.pose(), masks_ ? &*masks_ : nullptr, job_.sampling.seed,
                                       hooks().noise};
    conditioner_ = std::make_unique<Conditioner>(*models_.backend, session_.blocks(), sources);
    const auto began = std::chrono::steady_clock::now();
    LA_RETURN_IF_ERROR(make_video());
    if (link_ == nullptr) return {};
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    LA_ASSIGN_OR_RETURN(std::vector<RankReport> reports, link_->reports());
    reports.insert(reports.begin(), own_report(seconds));
    if (calls_.rank_reports != nullptr) *calls_.rank_reports = std::move(reports);
    return {};
  }

 private:
  RankReport own_report(double seconds) const {
    Group& group = link_->group();
    RankReport report;
    report.place = group.place(0);
    report.part = shape().placement.text(0);
    report.planned_peak_bytes = job_.plan.peak_bytes;
    report.peak_bytes = models_.budget->peak_bytes();
    report.sample_s = seconds;
    report.waited_s = group.waited_s() - waited_before_s_ + paused_s_;
    return report;
  }

  bool finishes_elsewhere() const { return link_ != nullptr && link_->finishes_elsewhere(); }
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
    if (link_ != nullptr) LA_RETURN_IF_ERROR(link_->send_prompt(Download(models_.text_backend(), rows.tensor)));
    return rows;
  }

  Expected<StaticImageLatents> portrait(VideoSession& session) override {
    LA_ASSIGN_OR_RETURN(StaticImageLatents latents, session.encode_portrait(portrait_));
    if (link_ != nullptr) LA_RETURN_IF_ERROR(link_->send_portrait(*models_.backend, latents));
    return latents;
  }
  void reference(const Tensor& latent) override { show("ref_latent", latent); }
  PoseVideo* pose() override { return job_.files.pose.get(); }

  Status make_video() {
    if (shape().decodes_beside()) return make_video_on_two_threads();
    LA_ASSIGN_OR_RETURN(int64_t made, denoise());
    while (finishes_elsewhere() && finished_ < made) LA_RETURN_IF_ERROR(take_finished());
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
    first_done_.close();
  }

  Status decode_as_they_come() {
    while (std::optional<DenoisedBlock> next = denoised_.front()) {
      Backend& decoding = session_.decoder().backend();
      if (next->latents.empty()) {
        LA_ASSIGN_OR_RETURN(next->latents, receive_finished(decoding));
        if (next->block == 0) first_done_.push(decoding.record());
      } else {
        models_.backend->wait(next->done);
      }
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
    LA_ASSIGN_OR_RETURN(int64_t made, sample({0, first_clip}));
    if (made < shape().clip_blocks() || made == job_.info.blocks) return made;
    if (link_ != nullptr) LA_RETURN_IF_ERROR(share_reference());
    LA_RETURN_IF_ERROR(session_.prefill());
    LA_ASSIGN_OR_RETURN(int64_t more, sample({first_clip, job_.info.blocks - first_clip}));
    return made + more;
  }

  // By the denoiser, or by other ranks alone.
  Expected<int64_t> sample(const BlockRange& blocks) {
    if (shape().rank.samples) return session_.denoiser().run(session_.weights(), blocks, *this);
    for (int64_t block = blocks.first; block < blocks.first + blocks.count; ++block) {
      LA_RETURN_IF_ERROR(check_stop(stop_.get_token()));
      LA_ASSIGN_OR_RETURN(std::optional<BlockStart> start, receive(block));
      if (!start) return block - blocks.first;
      LA_RETURN_IF_ERROR(send(block, start->latents));
    }
    return blocks.count;
  }

  // To all ranks, as soon as the first block is finished.
  Status share_reference() {
    if (finishes_elsewhere() && shape().decodes_beside()) {
      const std::optional<Event> done = first_done_.front();
      if (!done) return cancelled("stopped on request");
      models_.decode_backend->wait(*done);
    }
    while (finishes_elsewhere() && !shape().decodes_beside() && finished_ == 0) LA_RETURN_IF_ERROR(take_finished());
    return link_->start_reference(*models_.backend, session_.blocks().reference.tensor);
  }

  // The next finished block from another rank, and the sink's latent from the first. Where it is kept until it is
  // decoded.
  Expected<Tensor> receive_finished(Backend& backend) {
    LinkMemory& link = session_.link();
    const Tensor latents = shape().online_decode ? link.finished.tensor : latents_of(finished_);
    LA_RETURN_IF_ERROR(link_->receive_finished(backend, latents, link.finished_host));
    if (finished_ == 0) ops::copy_frames(backend, latents, session_.blocks().reference.tensor, {0, 0, 1});
    ++finished_;
    return latents;
  }

  // On one thread: waits for it and decodes it.
  Status take_finished() {
    const int64_t block = finished_;
    LA_ASSIGN_OR_RETURN(const Tensor latents, receive_finished(*models_.backend));
    LA_RETURN_IF_ERROR(check_latents(block, latents));
    return shape().online_decode ? decode(block, latents) : Status();
  }

  // On one thread: decodes what has arrived, until the other ranks have room for the next block. They come first where
  // they are about to have no work.
  Status decode_until_ready(bool others_first) {
    constexpr auto kPause = std::chrono::microseconds(100);
    for (;;) {
      LA_ASSIGN_OR_RETURN(const bool ready, link_->ready());
      if (ready && others_first) return {};
      LA_ASSIGN_OR_RETURN(const bool arrived, link_->arrived());
      if (arrived) {
        LA_RETURN_IF_ERROR(take_finished());
        others_first = is_starving();
        continue;
      }
      if (ready) return {};
      LA_RETURN_IF_ERROR(check_stop(stop_.get_token()));
      const auto pause_began = std::chrono::steady_clock::now();
      std::this_thread::sleep_for(kPause);
      paused_s_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - pause_began).count();
    }
  }

  // Whether the other stages have fewer blocks than there are of them, one that may have arrived not counted. A lead
  // that samples nothing gives them a block at once.
  bool is_starving() const {
    const auto others = static_cast<int64_t>(shape().placement.stages.size()) - 1;
    return !shape().rank.samples || sent_ - finished_ - 1 < others;
  }

  const Tensor& latents_of(int64_t block) {
    const std::vector<OwnedTensor>& latents = session_.blocks().latents;
    return latents[static_cast<size_t>(block) % latents.size()].tensor;
  }

  Expected<std::optional<BlockStart>> receive(int64_t block) override {
    output_.progress(Stage::kSample, block);
    if (finishes_elsewhere() && !shape().decodes_beside()) LA_RETURN_IF_ERROR(decode_until_ready(is_starving()));
    LA_ASSIGN_OR_RETURN(std::optional<BlockStart> start, conditioner_->block(block));
    if (link_ != nullptr) LA_RETURN_IF_ERROR(start ? link_->begin(block, *start) : link_->end(block));
    if (!start || !hooks().tensor) return start;
    hooks().tensor("audio_features", start->features);
    if (session_.pose() != nullptr) show("pose_latents", start->pose);
    if (masks_) show("actor_masks", start->actor_masks);
    return start;
  }

  // Beside sampling nothing waits here: the next block's work follows at once.
  Status send(int64_t block, const Tensor& latents) override {
    if (finishes_elsewhere()) {
      if (!shape().decodes_beside()) LA_RETURN_IF_ERROR(decode_until_ready(true));
      LA_RETURN_IF_ERROR(link_->send(block, latents));
      ++sent_;
      const bool expected = !shape().decodes_beside() || denoised_.push({block, Tensor(), Event()});
      return expected ? Status() : cancelled("stopped on request");
    }
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
    LA_RETURN_IF_ERROR(check_finite(backend, latents));
    if (hooks().latents) hooks().latents(block, Download(backend, latents).tensor());
    return {};
  }

  // Latent by latent, so that the first frames of a block are out before the last are decoded.
  Status decode(int64_t block, const Tensor& latents) {
    if (hooks().no_frames) return {};
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
  std::unique_ptr<LeadLink> link_;  // null: no other ranks
  std::stop_callback<std::function<void()>> stop_ranks_{stop_.get_token(), [this] {
                                                          if (link_ != nullptr)
                                                            link_->group().abort(cancelled("stopped on request"));
                                                        }};
  Portrait portrait_;  // until it is encoded
  std::unique_ptr<FileColumns> voices_;
  AudioColumns* audio_ = nullptr;
  std::optional<ActorMasks> masks_;  // of several voices
  VideoSession session_;
  std::unique_ptr<Conditioner> conditioner_;
  // Decoded beside the next ones' sampling; on several ranks as many as can be on their way.
  BoundedQueue<DenoisedBlock> denoised_{link_ == nullptr ? 1 : job_.shape.placement.stages.size() + 1};
  BoundedQueue<Event> first_done_{1};          // the sink's latent is there
  int64_t sent_ = 0, finished_ = 0;            // blocks that went to other ranks, and that came from the last stage
  double waited_before_s_ = 0, paused_s_ = 0;  // before the first block; in decode_until_ready()
};

}  // namespace

Status run_job(Models& models, ResolvedJob& job, const RunCalls& calls) {
  DirectDelivery caller(calls.on_chunk, calls.on_progress);
  if (calls.ranks == nullptr) return JobRun(models, job, calls, caller).run();
  const Status status = contained("generate", [&] { return JobRun(models, job, calls, caller).run(); });
  if (status.ok()) return status;
  const Status& failed = calls.ranks->status();
  calls.ranks->abort(status);
  return failed.ok() ? status : failed;
}

}  // namespace liveavatar
