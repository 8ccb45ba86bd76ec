#include "pipeline/live_video.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/clock.h"
#include "ops/layout.h"
#include "ops/transfer.h"
#include "session/finite.h"

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

Expected<std::unique_ptr<LiveVideo>> LiveVideo::open(Models& models, Budget& budget, ResolvedJob job,
                                                     const Options& options) {
  std::unique_ptr<LiveVideo> video(new LiveVideo(models, budget, std::move(job), options));
  LA_RETURN_IF_ERROR(video->prepare(budget));
  return video;
}

LiveVideo::LiveVideo(Models& models, Budget& budget, ResolvedJob job, const Options& options)
    : models_(models),
      job_(std::move(job)),
      feed_(options.feed),
      session_(models, budget, options.shape,
               {.sampling = job_.sampling,
                .cache_folder = models.options().paging_dir,
                .stop = feed_->stop(),
                .weights = options.weights}) {}

Status LiveVideo::prepare(Budget& budget) {
  LA_RETURN_IF_ERROR(session_.prepare(*this));
  portrait_ = Portrait();
  LA_ASSIGN_OR_RETURN(columns_.all,
                      LiveColumns::open(*models_.audio, budget.host(), session_.shape().live, feed_->sound()));
  columns_.all->set_stop(feed_->stop());
  const Conditioner::Sources sources{.audio = &columns_, .seed = job_.sampling.seed};
  conditioner_ = std::make_unique<Conditioner>(*models_.backend, session_.blocks(), sources);
  LA_ASSIGN_OR_RETURN(LiveChunkMemory chunks, LiveChunkMemory::allocate(session_.shape(), budget));
  feed_->open(std::move(chunks));
  return {};
}

Status LiveVideo::open(Budget& budget) {
  LA_ASSIGN_OR_RETURN(portrait_, job_.files.portrait->read(budget));
  return {};
}

Expected<OwnedTensor> LiveVideo::prompt(VideoSession& session) {
  LA_ASSIGN_OR_RETURN(PromptIds prompt, prompt_ids(*models_.checkpoint, job_.job.prompt));
  return session.encode_prompt(prompt.ids);
}

Expected<StaticImageLatents> LiveVideo::portrait(VideoSession& session) { return session.encode_portrait(portrait_); }

Expected<std::optional<BlockStart>> LiveVideo::receive(int64_t block) {
  const auto began = Clock::now();
  LA_ASSIGN_OR_RETURN(std::optional<BlockStart> start, conditioner_->block(block));
  hear_seconds_ = seconds_since(began);
  return start;
}

Status LiveVideo::send(int64_t block, const Tensor& latents) {
  if (block == 0) ops::copy_frames(*models_.backend, latents, session_.blocks().reference.tensor, {0, 0, 1});
  latents_ = latents;
  return check_finite(*models_.backend, latents, {block_});
}

Status LiveVideo::decode(int64_t latent, const LiveBlockReport& report) {
  const auto began = Clock::now();
  LA_ASSIGN_OR_RETURN(const uint8_t* rgb, session_.decoder().decode(latents_, latent));
  LiveSlot& slot = feed_->next();
  LiveChunk& chunk = slot.chunk;
  LiveSound& sound = feed_->sound();
  chunk.first_frame = block_ * kBlockFrames + latent * kVaeFrames;
  std::copy_n(rgb, chunk.frames * chunk.height * chunk.width * 3, slot.rgb);
  const std::span<const int16_t> samples =
      sound.samples().subspan(static_cast<size_t>(latent * chunk.samples), static_cast<size_t>(chunk.samples));
  std::copy(samples.begin(), samples.end(), slot.audio);
  const SpeechPosition at = sound.position((latent + 1) * kVaeFrames - 1);
  chunk.position = {at.speech, at.samples, at.complete};
  chunk.queued_samples = sound.queued_samples();
  chunk.gaps = sound.gaps();
  chunk.late_seconds = report.late_seconds;
  chunk.paused_seconds = report.paused_seconds;
  chunk.times = {hear_seconds_, report.sample_seconds, seconds_since(began)};
  feed_->post();
  return {};
}

// Before the second clip the model's own first latent replaces the portrait's in the sink, as in any video.
Status LiveVideo::finish_block() {
  ++block_;
  return block_ - columns_.first_block == session_.shape().clip_blocks() ? session_.prefill() : Status();
}

Expected<int64_t> LiveVideo::change(const LiveChange& change, bool& broken) {
  Status changed;
  if (change.prompt) {
    LA_ASSIGN_OR_RETURN(OwnedTensor rows, encode_prompt(*change.prompt));
    broken = true;
    changed = session_.change_prompt(rows.tensor);
  } else {
    LA_ASSIGN_OR_RETURN(StaticImageLatents latents, encode_portrait(*change.portrait));
    broken = true;
    columns_.first_block = block_;
    changed = session_.restart(latents);
  }
  LA_RETURN_IF_ERROR(changed);
  broken = false;
  return block_ * kBlockFrames;
}

Expected<OwnedTensor> LiveVideo::encode_prompt(const std::string& prompt) {
  GenerateRequest job = job_.job;
  job.prompt = prompt;
  LA_RETURN_IF_ERROR(check_job(job));
  LA_ASSIGN_OR_RETURN(PromptIds ids, prompt_ids(*models_.checkpoint, prompt));
  return session_.encode_new_prompt(ids.ids);
}

Expected<StaticImageLatents> LiveVideo::encode_portrait(const std::string& path) {
  if (path.empty()) return not_found("set_portrait: none is given; name the portrait, any picture FFmpeg reads");
  GenerateRequest job = job_.job;
  job.image = path;
  LA_RETURN_IF_ERROR(check_job(job));
  LA_ASSIGN_OR_RETURN(const int64_t area, parse_size(job.size));
  LA_ASSIGN_OR_RETURN(PortraitFile file, PortraitFile::open(path, area, job.fit));
  file.fit_to({session_.shape().height, session_.shape().width});
  LA_ASSIGN_OR_RETURN(const Portrait portrait, file.read(session_.budget().host()));
  return session_.encode_portrait(portrait);
}

}  // namespace liveavatar
