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

// Pages of these bytes to as many shares: each to the one that has the least yet. So shares are even, and pages that
// follow each other have other owners: transfers overlap with computing.
std::vector<int64_t> deal_pages(std::span<const size_t> bytes, int64_t shares);

// One rank's pages on its device.
struct ShardDit {
  RankShare share;
  std::vector<Buffer> pages;    // page 0 (common weights), then dit_weight_groups(); those of other ranks are empty
  std::vector<size_t> bytes;    // of all pages
  std::vector<int64_t> owners;  // of each of dit_weight_groups(): the index of the share that has it

  // loader: of the device's budget; reads, or counts over a dry run.
  static Expected<ShardDit> load(const DitConfig& config, const DitTypes& types, const RankShare& share,
                                 const Backend& backend, WeightAllocator& loader, Budget& budget);
  // peers: null in a dry run. This object outlives the pages.
  DitPages layers(const DitConfig& config, const DitTypes& types, PagePeers* peers) const;
};

}  // namespace liveavatar
