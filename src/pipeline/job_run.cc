#include "pipeline/job_run.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/boundary.h"
#include "core/clock.h"
#include "core/stop.h"
#include "ops/layout.h"
#include "ops/transfer.h"
#include "session/finite.h"

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

Status JobOutput::frames(int64_t block, const uint8_t* rgb) {
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

JobRun::JobRun(Models& models, ResolvedJob& job, const RunCalls& calls, Delivery& caller)
    : models_(models),
      job_(job),
      calls_(calls),
      output_(job.info, caller, calls.ranks),
      link_(calls.ranks == nullptr ? nullptr : std::make_unique<LeadLink>(*calls.ranks, job.shape)),
      session_(models, calls.budget != nullptr ? *calls.budget : *models.budget, job.shape,
               {.sampling = job.sampling,
                .cache_folder = models.options().paging_dir,
                .stop = stop_.get_token(),
                .stage = link_ == nullptr ? nullptr : link_->stage(),
                .black_pose_end = job.job.original_pose}) {}

// What is on its way to other ranks is taken, or given up, while its memory is there.
JobRun::~JobRun() {
  if (link_ != nullptr) link_->close();
}

Status JobRun::run() {
  LA_RETURN_IF_ERROR(check_fits(job_));
  if (link_ != nullptr) LA_RETURN_IF_ERROR(announce());
  LA_RETURN_IF_ERROR(session_.prepare(*this));
  portrait_ = Portrait();
  if (link_ != nullptr) {
    link_->open(session_, *models_.backend);
    waited_before_s_ = link_->group().waited_s();
  }
  const Conditioner::Sources sources{audio_, session_.pose(), masks_ ? &*masks_ : nullptr, job_.sampling.seed,
                                     hooks().noise};
  conditioner_ = std::make_unique<Conditioner>(*models_.backend, session_.blocks(), sources);
  if (calls_.resume != nullptr) LA_RETURN_IF_ERROR(restore(*calls_.resume));
  const auto began = Clock::now();
  LA_RETURN_IF_ERROR(make_video());
  return link_ == nullptr ? Status() : report_ranks(seconds_since(began));
}

Status JobRun::announce() {
  RankSnapshotJob snapshots;
  if (calls_.snapshots != nullptr) snapshots = calls_.snapshots->rank_job(calls_.resume);
  return link_->announce(shape(), job_.sampling, snapshots);
}

Status JobRun::open(Budget& budget) {
  LA_ASSIGN_OR_RETURN(portrait_, job_.files.portrait->read(budget));
  audio_ = hooks().audio;
  if (audio_ == nullptr) {
    LA_ASSIGN_OR_RETURN(voices_, FileColumns::open(*models_.audio, budget, job_.files.voices, stop_.get_token()));
    audio_ = voices_.get();
  }
  if (job_.files.masks.empty()) return {};
  return open_masks(budget);
}

Status JobRun::open_masks(Budget& budget) {
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

Expected<OwnedTensor> JobRun::prompt(VideoSession& session) {
  LA_ASSIGN_OR_RETURN(PromptIds prompt, prompt_ids(*models_.checkpoint, job_.job.prompt));
  if (hooks().token_ids) hooks().token_ids(prompt.ids);
  LA_ASSIGN_OR_RETURN(OwnedTensor rows, session.encode_prompt(prompt.ids));
  show("context", rows.tensor, models_.text_backend());
  if (link_ != nullptr) LA_RETURN_IF_ERROR(link_->send_prompt(Download(models_.text_backend(), rows.tensor)));
  return rows;
}

Expected<StaticImageLatents> JobRun::portrait(VideoSession& session) {
  LA_ASSIGN_OR_RETURN(StaticImageLatents latents, session.encode_portrait(portrait_));
  if (link_ != nullptr) LA_RETURN_IF_ERROR(link_->send_portrait(*models_.backend, latents));
  return latents;
}

Status JobRun::make_video() {
  if (shape().decodes_beside()) return make_video_on_two_threads();
  LA_ASSIGN_OR_RETURN(int64_t made, denoise());
  while (finishes_elsewhere() && finished_ < made) LA_RETURN_IF_ERROR(take_finished());
  if (shape().online_decode) return {};
  for (int64_t b = 0; b < made; ++b) LA_RETURN_IF_ERROR(decode(b, latents_of(b)));
  return {};
}

// The caller's thread delivers, one samples, one decodes; whichever fails stops the others. The threads join at the end
// of the block, also where a callback threw or the second thread did not start.
Status JobRun::make_video_on_two_threads() {
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

void JobRun::end_threads() {
  if (calls_.snapshots != nullptr) calls_.snapshots->cancel();
  stop_.request_stop();
  denoised_.close();
  first_done_.close();
}

Status JobRun::decode_as_they_come() {
  while (finished_ < sent_before_) LA_RETURN_IF_ERROR(take_finished());
  while (std::optional<DenoisedBlock> next = denoised_.front()) {
    if (next->snapshot) {
      keep_decoding();
    } else if (next->latents.empty()) {
      LA_RETURN_IF_ERROR(take_finished());
    } else {
      models_.backend->wait(next->done);
      LA_RETURN_IF_ERROR(check_latents(next->block, next->latents));
      LA_RETURN_IF_ERROR(decode(next->block, next->latents));
    }
    denoised_.pop();
  }
  return {};
}

// Adaptive attention sink: from the second clip on the model looks at a latent of its own instead of the portrait's.
// Returns how many blocks were made.
Expected<int64_t> JobRun::denoise() {
  const int64_t first_clip = std::min(job_.info.blocks, shape().clip_blocks());
  int64_t made = first_clip;
  if (calls_.resume == nullptr || calls_.resume->moment.blocks.first == 0) {
    LA_ASSIGN_OR_RETURN(made, sample({0, first_clip}));
    if (made < shape().clip_blocks() || made == job_.info.blocks) return made;
  }
  if (link_ != nullptr) LA_RETURN_IF_ERROR(share_reference());
  LA_RETURN_IF_ERROR(session_.prefill());
  LA_ASSIGN_OR_RETURN(int64_t more, sample({first_clip, job_.info.blocks - first_clip}));
  return made + more;
}

// By the denoiser, or by other ranks alone.
Expected<int64_t> JobRun::sample(const BlockRange& blocks) {
  if (shape().rank.samples) {
    LA_ASSIGN_OR_RETURN(const int64_t made, session_.denoiser().run(session_.weights(), blocks, *this, begun(blocks)));
    if (link_ != nullptr && made < blocks.count) LA_RETURN_IF_ERROR(link_->end(blocks.first + made));
    return made;
  }
  for (int64_t block = blocks.first + begun(blocks); block < blocks.first + blocks.count; ++block) {
    LA_RETURN_IF_ERROR(before(blocks, block - blocks.first));
    LA_RETURN_IF_ERROR(check_stop(stop_.get_token()));
    LA_ASSIGN_OR_RETURN(std::optional<BlockStart> start, receive(block));
    if (!start) return block - blocks.first;
    LA_RETURN_IF_ERROR(send(block, start->latents));
  }
  return blocks.count;
}

Expected<std::optional<BlockStart>> JobRun::receive(int64_t block) {
  output_.progress(Stage::kSample, block);
  if (finishes_elsewhere() && !shape().decodes_beside()) LA_RETURN_IF_ERROR(decode_until_ready(is_starving()));
  LA_ASSIGN_OR_RETURN(std::optional<BlockStart> start, conditioner_->block(block));
  if (link_ != nullptr) LA_RETURN_IF_ERROR(start ? link_->begin(block, *start) : link_->end_starts(block));
  if (!start || !hooks().tensor) return start;
  hooks().tensor("audio_features", start->features);
  if (session_.pose() != nullptr) show("pose_latents", start->pose);
  if (masks_) show("actor_masks", start->actor_masks);
  return start;
}

Status JobRun::renew(int64_t block, const Tensor& latents) {
  output_.retry(block);
  conditioner_->fill_noise_of(block, latents);
  return {};
}

// Beside sampling nothing waits here: the next block's work follows at once.
Status JobRun::send(int64_t block, const Tensor& latents) {
  if (finishes_elsewhere()) return send_on(block, latents);
  if (block == 0) ops::copy_frames(*models_.backend, latents, session_.blocks().reference.tensor, {0, 0, 1});
  if (shape().decodes_beside()) {
    const bool taken = denoised_.push({block, latents, models_.backend->record()});
    return taken ? Status() : cancelled("stopped on request");
  }
  LA_RETURN_IF_ERROR(check_latents(block, latents));
  return shape().online_decode ? decode(block, latents) : Status();
}

// To the ranks that have the last steps.
Status JobRun::send_on(int64_t block, const Tensor& latents) {
  if (!shape().decodes_beside()) LA_RETURN_IF_ERROR(decode_until_ready(true));
  LA_RETURN_IF_ERROR(link_->send(block, latents));
  ++sent_;
  const bool expected = !shape().decodes_beside() || denoised_.push({block, Tensor(), Event()});
  return expected ? Status() : cancelled("stopped on request");
}

// To all ranks, as soon as the first block is finished.
Status JobRun::share_reference() {
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
Expected<Tensor> JobRun::receive_finished(Backend& backend) {
  LinkMemory& link = session_.link();
  const Tensor latents = shape().online_decode ? link.finished.tensor : latents_of(finished_);
  LA_RETURN_IF_ERROR(link_->receive_finished(backend, latents, link.finished_host));
  if (finished_ == 0) ops::copy_frames(backend, latents, session_.blocks().reference.tensor, {0, 0, 1});
  ++finished_;
  return latents;
}

// Waits for it and decodes it, on the thread that decodes.
Status JobRun::take_finished() {
  const int64_t block = finished_;
  Backend& decoding = session_.decoder().backend();
  LA_ASSIGN_OR_RETURN(const Tensor latents, receive_finished(decoding));
  if (block == 0 && shape().decodes_beside()) first_done_.push(decoding.record());
  if (block == snapshot_before_) keep_decoding();
  LA_RETURN_IF_ERROR(check_latents(block, latents));
  return shape().online_decode ? decode(block, latents) : Status();
}

// On one thread: decodes what has arrived, until the other ranks have room for the next block. They come first where
// they are about to have no work.
Status JobRun::decode_until_ready(bool others_first) {
  constexpr auto kPause = std::chrono::microseconds(100);
  Group& group = link_->group();
  const double limit_s = group.options().wait_s;
  auto wait_began = Clock::now();
  for (;;) {
    LA_ASSIGN_OR_RETURN(const std::optional<int> awaited, link_->awaited());
    if (!awaited && others_first) return {};
    LA_ASSIGN_OR_RETURN(const bool arrived, link_->arrived());
    if (arrived) {
      LA_RETURN_IF_ERROR(take_finished());
      others_first = is_starving();
      wait_began = Clock::now();
      continue;
    }
    if (!awaited) return {};
    LA_RETURN_IF_ERROR(check_stop(stop_.get_token()));
    if (seconds_since(wait_began) > limit_s)
      return waited_too_long(group.name_of(*awaited) + " did not take " + tag_name(Tag::kBlock), limit_s);
    const auto pause_began = Clock::now();
    std::this_thread::sleep_for(kPause);
    paused_s_ += seconds_since(pause_began);
  }
}

// Whether the other stages have fewer blocks than there are of them, one that may have arrived not counted. A lead that
// samples nothing gives them a block at once.
bool JobRun::is_starving() const {
  const auto others = static_cast<int64_t>(shape().placement.stages.size()) - 1;
  return !shape().rank.samples || sent_ - finished_ - 1 < others;
}

// The lead's own report before those of the others.
Status JobRun::report_ranks(double seconds) {
  LA_ASSIGN_OR_RETURN(std::vector<RankReport> reports, link_->reports());
  const Group& group = link_->group();
  RankReport own;
  own.place = group.place(0);
  own.part = shape().placement.text(0);
  own.planned_peak_bytes = job_.plan.peak_bytes;
  own.peak_bytes = models_.budget->peak_bytes();
  own.sample_s = seconds;
  if (shape().rank.samples) own.link = session_.denoiser().link();
  own.waited_s = group.waited_s() - waited_before_s_ + paused_s_;
  reports.insert(reports.begin(), std::move(own));
  if (calls_.rank_reports != nullptr) *calls_.rank_reports = std::move(reports);
  return {};
}

const Tensor& JobRun::latents_of(int64_t block) {
  const std::vector<OwnedTensor>& latents = session_.blocks().latents;
  return latents[static_cast<size_t>(block) % latents.size()].tensor;
}

// A block before it is handed on.
Status JobRun::check_latents(int64_t block, const Tensor& latents) {
  Backend& backend = session_.decoder().backend();
  LA_RETURN_IF_ERROR(check_finite(backend, latents, {block}));
  if (hooks().latents) hooks().latents(block, Download(backend, latents).tensor());
  return {};
}

// Latent by latent, so that the first frames of a block are out before the last are decoded.
Status JobRun::decode(int64_t block, const Tensor& latents) {
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

void JobRun::show(const char* name, const Tensor& value, Backend& backend) {
  if (hooks().tensor) hooks().tensor(name, Download(backend, value).tensor());
}

}  // namespace liveavatar
