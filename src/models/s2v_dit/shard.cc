#include "models/s2v_dit/shard.h"

namespace liveavatar {
namespace {

// Pages of other ranks. They never change.
class PeerPages : public PageStore {
 public:
  PeerPages(PagePeers& peers, std::vector<int64_t> owners, std::vector<size_t> bytes)
      : peers_(peers), owners_(std::move(owners)), bytes_(std::move(bytes)) {}
  std::vector<PageRange> to_read(size_t page) const override { return {{0, bytes_[page]}}; }
  std::vector<PageRange> to_write(size_t) override { return {}; }
  Status read(size_t page, const PageRange& range, std::byte* target, const std::atomic<bool>& stop) override {
    return peers_.read(owners_[page], page, range, target, stop);
  }

 private:
  PagePeers& peers_;
  std::vector<int64_t> owners_;
  std::vector<size_t> bytes_;
};

}  // namespace

Expected<ShardDit> ShardDit::load(const DitConfig& config, const DitTypes& types, const RankShare& share,
                                  const Backend& backend, WeightAllocator& loader, Budget& budget) {
  ShardDit dit;
  dit.share = share;
  const std::vector<DitWeightGroup> groups = dit_weight_groups(config);
  for (const PackedPage& packed : dit_packed_pages(config, backend, types)) {
    const size_t p = dit.pages.size();
    dit.bytes.push_back(packed.span.bytes);
    Buffer page;
    if (p == 0 || owner_of(share, groups[p - 1]) == share.index) {
      LA_ASSIGN_OR_RETURN(page, Buffer::allocate(budget, MemoryCategory::kWeights, packed.span.bytes));
      loader.place_in(PackedMemory(page));
      load_dit_page(config, p, groups, loader);
      LA_RETURN_IF_ERROR(loader.status());
    }
    dit.pages.push_back(std::move(page));
  }
  return dit;
}

DitPages ShardDit::layers(const DitConfig& config, const DitTypes& types, PagePeers* peers) const {
  DitPages layers{.config = config, .types = types};
  std::vector<int64_t> owners;
  for (const DitWeightGroup& group : dit_weight_groups(config)) {
    const size_t p = owners.size() + 1;
    owners.push_back(owner_of(share, group));
    layers.spans.push_back({0, bytes[p]});
    layers.own.push_back(owners.back() == share.index);
    layers.lent.push_back(pages[p].data());
  }
  if (peers == nullptr) return layers;
  layers.store =
      std::make_unique<PeerPages>(*peers, std::move(owners), std::vector<size_t>(bytes.begin() + 1, bytes.end()));
  return layers;
}

}  // namespace liveavatar
