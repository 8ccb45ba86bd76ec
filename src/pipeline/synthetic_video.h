// One video of noise on a video model: audio, prompt, portrait and motion are random numbers, the same for one seed.
#pragma once

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "session/video_session.h"

namespace liveavatar {

class SyntheticVideo : public LatentChannel, VideoInputs {
 public:
  struct Block {
    double at_seconds = 0;  // when it was finished, since start()
    uint64_t checksum = 0;  // of its latents
  };
  struct Options {
    uint64_t seed = 420;
    std::string cache_folder;            // where keys and values go that do not stay in memory
    DitWeightGroups* weights = nullptr;  // of the video whose layers this one shares
    std::stop_token stop;                // heard between layers: kCancelled
    Group* stage = nullptr;              // the ranks that share its steps (JobShape::rank)
    CheckFinite check_finite = CheckFinite::kBlock;
  };
  // A video of this shape, ready for its first block; all memory is in the budget. models and budget outlive it.
  static Expected<std::unique_ptr<SyntheticVideo>> open(Models& models, Budget& budget, const JobShape& shape,
                                                        const Options& options);

  DitWeightGroups& weights() { return session_.weights(); }
  // Of open().
  double prefill_seconds() const { return prefill_seconds_; }
  // The clock of at_seconds begins.
  void start() { begin_ = std::chrono::steady_clock::now(); }
  // All its blocks, alone or beside those of others.
  Denoiser::Run run() { return {&session_.denoiser(), {0, session_.shape().blocks}, this, {}}; }

  const std::vector<Block>& blocks() const { return blocks_; }
  std::string link() { return session_.denoiser().link(); }
  PagingCounts cache_counts() { return session_.denoiser().cache_counts(); }

  Expected<std::optional<BlockStart>> receive(int64_t block) override;
  Status send(int64_t block, const Tensor& latents) override;

 private:
  SyntheticVideo(Models& models, Budget& budget, const JobShape& shape, const Options& options)
      : backend_(*models.backend),
        seed_(options.seed),
        session_(models, budget, shape,
                 {.sampling = {.seed = options.seed, .check_finite = options.check_finite},
                  .cache_folder = options.cache_folder,
                  .stop = options.stop,
                  .stage = options.stage,
                  .weights = options.weights}) {}
  void fill(const Tensor& t, uint64_t stream) const;
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }
  void begin(Stage stage) override;
  Expected<OwnedTensor> prompt(VideoSession& session) override;
  Expected<StaticImageLatents> portrait(VideoSession& session) override;

  Backend& backend_;
  uint64_t seed_;
  VideoSession session_;
  std::chrono::steady_clock::time_point begin_;
  double prefill_seconds_ = 0;
  std::vector<Block> blocks_;
};

}  // namespace liveavatar
