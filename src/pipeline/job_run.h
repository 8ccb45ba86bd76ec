// One run of one job on the lead, from its files to its last frame. run_job() makes one.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <utility>

#include "core/bounded_queue.h"
#include "pipeline/delivery.h"
#include "pipeline/lead_link.h"
#include "pipeline/run.h"
#include "pipeline/snapshots.h"
#include "session/conditioner.h"
#include "session/video_session.h"

namespace liveavatar {

// Progress and frames on their way to the caller. progress() is called by the threads that sample and decode.
class JobOutput {
 public:
  // ranks: those that make the video; null: this one alone.
  JobOutput(const JobInfo& info, Delivery& caller, Group* ranks) : info_(info), delivery_(&caller), ranks_(ranks) {}
  void progress(Stage stage, int64_t block) {
    if (ranks_ != nullptr) ranks_->set_stage(stage_name(stage));
    delivery_->progress({stage, block, info_.blocks, frames_done_, info_.frames, retried_block_});
  }
  void retry(int64_t block) {
    retried_block_ = block;
    progress(Stage::kSample, block);
  }
  // A job that goes on behind so many frames.
  void go_on(int64_t frames) { frames_done_ = frames; }
  bool complete() const { return frames_done_ == info_.frames; }
  // The next four frames, or as many as are left: [4, H, W, 3] u8.
  Status frames(int64_t block, const uint8_t* rgb);
  // From here on to that one, when no thread is in a call. Returns the one before.
  Delivery& redirect(Delivery& to) { return *std::exchange(delivery_, &to); }

 private:
  const JobInfo& info_;
  Delivery* delivery_;
  Group* ranks_;
  std::atomic<int64_t> frames_done_ = 0, retried_block_ = -1;
};

// The members are what lives as long as the video. Four parts: the conditioner gives blocks to the denoiser, which
// hands latents to the decoder, which hands frames to the delivery.
class JobRun : LatentChannel, VideoInputs {
 public:
  JobRun(Models& models, ResolvedJob& job, const RunCalls& calls, Delivery& caller);
  ~JobRun() override;
  JobRun(const JobRun&) = delete;
  JobRun& operator=(const JobRun&) = delete;

  Status run();

 private:
  // A block whose latents wait to be decoded.
  struct DenoisedBlock {
    int64_t block = 0;
    Tensor latents;         // empty: they come from another rank
    Event done;             // of the backend that samples
    bool snapshot = false;  // no block: the decoder's part of a snapshot is due
  };

  const JobShape& shape() const { return job_.shape; }
  const RunHooks& hooks() const { return calls_.hooks; }
  bool finishes_elsewhere() const { return link_ != nullptr && link_->finishes_elsewhere(); }

  Status announce();

  // What the video is made from.
  Status open(Budget& budget) override;
  Status open_masks(Budget& budget);
  void begin(Stage stage) override { output_.progress(stage, 0); }
  Expected<OwnedTensor> prompt(VideoSession& session) override;
  Expected<StaticImageLatents> portrait(VideoSession& session) override;
  void reference(const Tensor& latent) override { show("ref_latent", latent); }
  PoseVideo* pose() override { return job_.files.pose.get(); }

  // Its blocks, on one thread or on two.
  Status make_video();
  Status make_video_on_two_threads();
  void end_threads();
  Status decode_as_they_come();

  // Sampling.
  Expected<int64_t> denoise();
  Expected<int64_t> sample(const BlockRange& blocks);
  Status before(const BlockRange& blocks, int64_t begun) override;
  Expected<std::optional<BlockStart>> receive(int64_t block) override;
  Status renew(int64_t block, const Tensor& latents) override;
  Status send(int64_t block, const Tensor& latents) override;
  Status send_on(int64_t block, const Tensor& latents);

  // Snapshots.
  Status restore(const ResumePoint& from);
  int64_t begun(const BlockRange& blocks) const;
  int64_t sent(int64_t begun);
  Status visit_sampling(const Denoiser::Moment& moment, StateVisitor& visitor);
  Status visit_decoding(StateVisitor& visitor);
  Status keep_sampling(const Denoiser::Moment& moment, SnapshotWriter& to);
  void keep_decoding();

  // With other ranks.
  Status share_reference();
  Expected<Tensor> receive_finished(Backend& backend);
  Status take_finished();
  Status decode_until_ready(bool others_first);
  bool is_starving() const;
  Status report_ranks(double seconds);

  // Decoding.
  const Tensor& latents_of(int64_t block);
  Status check_latents(int64_t block, const Tensor& latents);
  Status decode(int64_t block, const Tensor& latents);

  void show(const char* name, const Tensor& value) { show(name, value, *models_.backend); }
  void show(const char* name, const Tensor& value, Backend& backend);

  Models& models_;
  ResolvedJob& job_;
  const RunCalls& calls_;
  JobOutput output_;
  std::stop_source stop_;
  std::stop_callback<std::function<void()>> stop_with_caller_{calls_.stop, [this] { stop_.request_stop(); }};
  std::unique_ptr<LeadLink> link_;  // null: no other ranks
  std::stop_callback<std::function<void()>> stop_ranks_{stop_.get_token(), [this] {
                                                          if (link_ != nullptr)
                                                            link_->group().abort(cancelled("stopped on request"));
                                                        }};
  std::stop_callback<std::function<void()>> stop_with_ranks_{
      link_ == nullptr ? std::stop_token() : link_->group().failure_token(), [this] { stop_.request_stop(); }};
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
  int64_t sent_before_ = 0;                    // of these at the snapshot where the job goes on
  std::atomic<int64_t> snapshot_before_ = -1;  // a block from the last stage, before which the decoder is kept
  double waited_before_s_ = 0, paused_s_ = 0;  // before the first block; in decode_until_ready()
};

}  // namespace liveavatar
