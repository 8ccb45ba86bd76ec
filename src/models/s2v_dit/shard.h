// The video model's layers dealt to the ranks that sample: each has some of them, and reads the others from their
// owners whenever a forward needs them.
#pragma once

#include <vector>

#include "models/s2v_dit/packed.h"
#include "models/s2v_dit/share.h"

namespace liveavatar {

// Reads pages of other ranks. Outlives the runs that read. One thread at a time.
class PagePeers {
 public:
  virtual ~PagePeers() = default;
  // A range of a layer's page into host memory. owner: the index of the share that has it. kCancelled soon after `stop`
  // is set.
  virtual Status read(int64_t owner, size_t page, const PageRange& range, std::byte* target,
                      const std::atomic<bool>& stop) = 0;
};

// One rank's pages on its device.
struct ShardDit {
  RankShare share;
  std::vector<Buffer> pages;  // page 0 (common weights), then dit_weight_groups(); those of other ranks are empty
  std::vector<size_t> bytes;  // of all pages
  // The layers are dealt round, so that transfers overlap with computing.
  static int64_t owner_of(const RankShare& share, const DitWeightGroup& group) { return group.layer % share.ranks; }

  // loader: of the device's budget; reads, or counts over a dry run.
  static Expected<ShardDit> load(const DitConfig& config, const DitTypes& types, const RankShare& share,
                                 const Backend& backend, WeightAllocator& loader, Budget& budget);
  // peers: null in a dry run. This object outlives the pages.
  DitPages layers(const DitConfig& config, const DitTypes& types, PagePeers* peers) const;
};

}  // namespace liveavatar
