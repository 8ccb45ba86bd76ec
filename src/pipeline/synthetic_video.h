// One video of noise on a video model: sound, prompt, portrait and motion are random numbers, the same for one seed.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "session/denoiser.h"

namespace liveavatar {

class SyntheticVideo : public LatentChannel {
 public:
  struct Block {
    double at_seconds = 0;  // when it was finished, since start()
    uint64_t checksum = 0;  // of its latents
  };
  struct Options {
    uint64_t seed = 420;
    std::string cache_folder;  // where keys and values go that do not stay in memory
  };
  // All memory of a video of this shape; model and backend outlive it.
  static Expected<std::unique_ptr<SyntheticVideo>> open(const S2vDit& dit, Backend& backend, Budget& budget,
                                                        const JobShape& shape, const Options& options);

  // Prompt and sink.
  Status prefill(DitWeightGroups& pages);
  // The clock of at_seconds begins.
  void start() { begin_ = std::chrono::steady_clock::now(); }
  // All its blocks, alone or beside those of others.
  Denoiser::Run run() { return {denoiser_.get(), {0, shape_.blocks}, this, {}}; }

  const std::vector<Block>& blocks() const { return blocks_; }
  PagingCounts cache_counts() const { return denoiser_->cache_counts(); }

  Expected<std::optional<BlockStart>> receive(int64_t block) override;
  Status send(int64_t block, const Tensor& latents) override;

 private:
  SyntheticVideo(Backend& backend, const JobShape& shape, const Options& options)
      : backend_(backend), shape_(shape), options_(options) {}
  void fill(const Tensor& t, uint64_t stream) const;
  Expected<OwnedTensor> random(Shape shape, uint64_t stream, Budget& budget) const;

  Backend& backend_;
  JobShape shape_;
  Options options_;
  BlockMemory memory_;
  std::unique_ptr<Denoiser> denoiser_;
  std::chrono::steady_clock::time_point begin_;
  std::vector<Block> blocks_;
};

}  // namespace liveavatar
