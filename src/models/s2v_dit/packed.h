// The DiT in a packed file: writing, and reading page by page. Page 0 has all weights that are not part of a layer, and
// always stays in memory. The other pages are the groups of dit_weight_groups(), in that order.
#pragma once

#include <memory>
#include <string>

#include "models/s2v_dit/weight_groups.h"
#include "weights/packed_file.h"

namespace liveavatar {

// Names and sizes of the pages in a backend's packing. Offsets are not set.
std::vector<PackedPage> dit_packed_pages(const DitConfig& config, const Backend& backend, const DitTypes& types);

// Visits what page `page` holds: 0 the common weights, then the groups.
void load_dit_page(const DitConfig& config, size_t page, const std::vector<DitWeightGroup>& groups,
                   WeightVisitor& visitor);

// Options of a packed file.
struct PackJob {
  std::string path;
  DitTypes types{DType::kBF16};
  std::function<bool(uint64_t bytes, uint64_t of_bytes)> progress;  // optional; false: stop
  PendingFile* file = nullptr;                                      // optional: `path`, opened; moved from
};
// Reads every tensor once, packs it and writes it page by page. One page is in memory at a time
// (MemoryCategory::kWeights).
Status pack_dit(const DitConfig& config, const TensorSource& source, const Backend& backend, Budget& budget,
                const PackJob& job);

// The memory of that: `loader` fills (or sizes) one page after the other and calls `show`, until `show` fails.
Status pack_dit_pages(const DitConfig& config, const std::vector<PackedPage>& pages, WeightAllocator& loader,
                      Budget& budget, const std::function<Status(const PackedPage&, const std::byte*)>& show);

// The layers' pages, and where they come from.
struct DitPages {
  DitConfig config;
  DitTypes types{DType::kBF16};
  std::vector<PageSpan> spans;       // of dit_weight_groups()
  std::unique_ptr<PageStore> store;  // null: of a dry run
  bool in_host = false;              // the store is host memory beside the device
  std::vector<char> own;             // of a shard, for each page: it stays on the device, at `lent`
  std::vector<std::byte*> lent;      // null in a dry run
  const DirectFile* file = nullptr;  // else this one, the store's
};

// The pages in memory, without a file: page 0 on the device, the layers' in host memory beside it.
struct HostDit {
  std::vector<Buffer> pages;
  // loader: of the device's budget; reads, or counts over a dry run.
  static Expected<HostDit> load(const DitConfig& config, const DitTypes& types, const Backend& backend,
                                WeightAllocator& loader, Budget& budget);
  DitPages layers(const DitConfig& config, const DitTypes& types, bool dry_run) const;  // this object outlives them
};

// A packed file that matches the backend and the weight types, else an error that says what does not match. Reads only
// the header.
struct PackedDit {
  std::string path;
  PackedHeader header;
  DitConfig config;
  DitTypes types{DType::kBF16};
  std::vector<PageSpan> spans() const;  // of dit_weight_groups()
  PageSpan common() const { return header.pages.front().span; }
  Expected<DitPages> pages(bool dry_run) const;
  static Expected<PackedDit> open(const std::string& path, const Backend& backend, const DitTypes& types);
  // As open() of a file that is not there yet. For dry runs.
  static PackedDit planned(const DitConfig& config, const Backend& backend, const DitTypes& types);
};

// Bytes that are brought to the device, and those of them that come from disk.
struct PageBytes {
  uint64_t all = 0, disk = 0;
};
// What a pass over the layers brings, and what a block's audio brings beside it, once. resting: on the device, and not
// read in a pass.
struct PassBytes {
  PageBytes pass, block;
  uint64_t resting = 0;
  void add(DitPart part, uint64_t bytes, PagePlace place);
};
PassBytes paged_bytes(const DitConfig& config, const std::vector<PageSpan>& spans, const Residency& residency);

// How forwards read the layers.
struct DitAccess {
  Residency residency;
  int64_t forwards = 1;  // run a layer together, at most
};

DitCommonWeights view_dit_common(const DitConfig& config, const Backend& backend, const DitTypes& types,
                                 const Buffer& page);

// Weight groups that are brought to the device ahead of their use.
class PagedWeightGroups : public DitWeightGroups {
 public:
  // stop: heard between the pages that are read now. Over a dry-run budget only the memory is counted.
  static Expected<std::unique_ptr<PagedWeightGroups>> open(DitPages pages, const DitAccess& access, Backend& backend,
                                                           Budget& budget, const std::stop_token& stop = {});
  const DitGroupWeights& acquire(size_t group) override;
  void release(size_t group, Event used) override { pager_->release(group, {false, used}); }
  void expect(const DitUses& uses) override;
  Status status() const override { return pager_->status(); }
  PagingCounts counts() const override { return pager_->counts(); }
  bool direct() const override { return file_ != nullptr && file_->direct(); }

 private:
  PagedWeightGroups() = default;
  struct View {
    const std::byte* data = nullptr;
    DitGroupWeights weights;
  };
  PageMemory dry_run_memory_;
  const DirectFile* file_ = nullptr;
  std::unique_ptr<Pager> pager_;
  std::vector<std::vector<View>> views_;  // [group]: one view for each buffer that the group can be in
  std::vector<DitWeightGroup> groups_;
  std::optional<DitUses> uses_;  // as expect() said
};

}  // namespace liveavatar
