// The DiT in a packed file: how it is written, and how its pages come back. Page 0 holds all that is not of a layer and
// always stays in memory; the others are those of dit_pages(), in that order.
#pragma once

#include <memory>
#include <string>

#include "models/s2v_dit/pages.h"
#include "weights/packed_file.h"

namespace liveavatar {

// Names and sizes of the pages in a backend's packed form; offsets are left open.
std::vector<PackedPage> dit_packed_pages(const DitConfig& config, const Backend& backend, const DitTypes& types);

// What decides a packed file beside the weights.
struct PackJob {
  std::string path;
  DitTypes types{DType::kBF16};
  std::function<bool(uint64_t bytes, uint64_t of_bytes)> progress;  // optional; false: stop
  PendingFile* file = nullptr;                                      // `path`, opened by the caller; taken over
};
// Reads every tensor once and writes it packed, page by page: one page is in memory at a time
// (MemoryCategory::kWeights).
Status pack_dit(const DitConfig& config, const TensorSource& source, const Backend& backend, Budget& budget,
                const PackJob& job);

// The memory of that: page after page is filled by `loader` (or sized) and shown, until `show` fails.
Status pack_dit_pages(const DitConfig& config, const std::vector<PackedPage>& pages, WeightAllocator& loader,
                      Budget& budget, const std::function<Status(const PackedPage&, const std::byte*)>& show);

// A packed file that fits the backend and types (keys and values are not its business): else one line that says what
// does not. Reads the header alone.
struct PackedDit {
  std::string path;
  PackedHeader header;
  DitConfig config;
  DitTypes types{DType::kBF16};
  std::vector<PageSpan> spans() const;  // of dit_pages()
  PageSpan common() const { return header.pages.front().span; }
  static Expected<PackedDit> open(const std::string& path, const Backend& backend, const DitTypes& types);
};

// Memory of the pages of `resident` layers, spread evenly over all so that reading and computing overlap, and of the
// slots for the others.
Expected<PageMemory> allocate_dit_pages(const DitConfig& config, const std::vector<PageSpan>& spans, int64_t resident,
                                        Budget& budget);
// Bytes of the pages that are read anew every time a forward comes by.
uint64_t paged_bytes(const DitConfig& config, const std::vector<PageSpan>& spans, int64_t resident);

DitCommonWeights view_dit_common(const DitConfig& config, const Backend& backend, const DitTypes& types,
                                 const Buffer& page);

// Pages that come from disk.
class PagedPages : public DitPages {
 public:
  static Expected<std::unique_ptr<PagedPages>> open(const PackedDit& packed, int64_t resident, Backend& backend,
                                                    Budget& budget);
  const DitPageWeights& pin(size_t page) override;
  void release(size_t page, Event used) override { pager_->release(page, {false, used}); }
  void expect(Way way) override;
  Status status() const override { return pager_->status(); }
  PagingCounts counts() const override { return pager_->counts(); }
  bool direct() const override { return static_cast<const FilePages&>(pager_->store()).file().direct(); }

 private:
  PagedPages() = default;
  struct View {
    const std::byte* data = nullptr;
    DitPageWeights weights;
  };
  std::unique_ptr<Pager> pager_;
  std::vector<std::vector<View>> views_;  // of each page, one for every place that it can have
  std::vector<DitPage> pages_;
  bool expecting_ = false;
  Way way_ = Way::kAll;
};

}  // namespace liveavatar
