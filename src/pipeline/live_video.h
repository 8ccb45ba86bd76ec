// The video of a live session on loaded models, block by block.
#pragma once

#include <memory>
#include <span>

#include "pipeline/live_feed.h"
#include "pipeline/resolve.h"
#include "session/conditioner.h"
#include "session/live_columns.h"
#include "session/video_session.h"

namespace liveavatar {

// What the live thread says of a block in its chunks.
struct LiveBlockReport {
  double late_seconds = 0, paused_seconds = 0, sample_seconds = 0;
};

// On the thread of its models' backends. Everything is in its budget.
class LiveVideo : LatentChannel, VideoInputs {
 public:
  struct Options {
    JobShape shape;  // of the job, whose weights are shared
    DitWeightGroups* weights = nullptr;
    std::shared_ptr<LiveFeed> feed;
  };
  // Ready for its first block. models, weights and budget outlive it.
  static Expected<std::unique_ptr<LiveVideo>> open(Models& models, Budget& budget, ResolvedJob job,
                                                   const Options& options);

  // The next block, to be sampled alone or beside others; then its three latents; then what comes before the next.
  Denoiser::Run run() { return {&session_.denoiser(), {block_ - columns_.first_block, 1}, this, {}}; }
  Status decode(int64_t latent, const LiveBlockReport& report);
  Status finish_block();

  // Between two blocks. An error leaves all as it was, but for `broken`: the session is to end then. Returns the first
  // frame that has the change.
  Expected<int64_t> change(const LiveChange& change, bool& broken);

 private:
  // What the model hears of its block 0 on, which is a later one of the time line after a new portrait.
  struct Columns : AudioColumns {
    std::unique_ptr<LiveColumns> all;
    int64_t first_block = 0;
    int64_t count() const override { return all->count(); }
    Expected<bool> columns(int64_t first, int64_t count, float* out) override {
      return all->columns(first_block * kBlockFrames + first, count, out);
    }
  };
  LiveVideo(Models& models, Budget& budget, ResolvedJob job, const Options& options);
  Status prepare(Budget& budget);
  Expected<OwnedTensor> encode_prompt(const std::string& prompt);
  Expected<StaticImageLatents> encode_portrait(const std::string& path);
  Status open(Budget& budget) override;
  Expected<OwnedTensor> prompt(VideoSession& session) override;
  Expected<StaticImageLatents> portrait(VideoSession& session) override;
  Expected<std::optional<BlockStart>> receive(int64_t block) override;
  Status send(int64_t block, const Tensor& latents) override;

  Models& models_;
  ResolvedJob job_;
  std::shared_ptr<LiveFeed> feed_;
  Portrait portrait_;  // until it is encoded
  VideoSession session_;
  Columns columns_;
  std::unique_ptr<Conditioner> conditioner_;
  int64_t block_ = 0;  // of the time line
  Tensor latents_;     // of the block
  double hear_seconds_ = 0;
};

}  // namespace liveavatar
