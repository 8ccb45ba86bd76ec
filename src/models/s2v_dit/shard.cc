#include "models/s2v_dit/shard.h"

#include <algorithm>

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

std::vector<int64_t> deal_pages(std::span<const size_t> bytes, int64_t shares) {
  std::vector<size_t> dealt(static_cast<size_t>(shares), 0);
  std::vector<int64_t> owners;
  for (const size_t page : bytes) {
    const auto least = std::min_element(dealt.begin(), dealt.end());
    *least += page;
    owners.push_back(least - dealt.begin());
  }
  return owners;
}

Expected<ShardDit> ShardDit::load(const DitConfig& config, const DitTypes& types, const RankShare& share,
                                  const Backend& backend, WeightAllocator& loader, Budget& budget) {
  ShardDit dit;
  dit.share = share;
  const std::vector<DitWeightGroup> groups = dit_weight_groups(config);
  for (const PackedPage& packed : dit_packed_pages(config, backend, types)) dit.bytes.push_back(packed.span.bytes);
  dit.owners = deal_pages(std::span(dit.bytes).subspan(1), share.ranks);
  for (size_t p = 0; p < dit.bytes.size(); ++p) {
    Buffer page;
    if (p == 0 || dit.owners[p - 1] == share.index) {
      LA_ASSIGN_OR_RETURN(page, Buffer::allocate(budget, MemoryCategory::kWeights, dit.bytes[p]));
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
  for (size_t p = 1; p < pages.size(); ++p) {
    layers.spans.push_back({0, bytes[p]});
    layers.own.push_back(owners[p - 1] == share.index);
    layers.lent.push_back(pages[p].data());
  }
  if (peers == nullptr) return layers;
  layers.store = std::make_unique<PeerPages>(*peers, owners, std::vector<size_t>(bytes.begin() + 1, bytes.end()));
  return layers;
}

}  // namespace liveavatar
