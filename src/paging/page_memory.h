// Memory of pages, and their way between the store, host memory and the device.
#pragma once

#include "paging/page_store.h"

namespace liveavatar {

// Where a page stays when it is not used. kHost: in host memory beside the device, from where it is copied. kLent: on
// the device, in memory of somebody else that has what the store would give.
enum class PagePlace : uint8_t { kDevice, kHost, kStore, kLent };

// How many of some pages stay on the device, and how many of the others in host memory.
struct Residency {
  int64_t device = 0, host = 0;
};
// The place of page i of `count`. Both kinds are spread evenly: transfers overlap with computation.
PagePlace place_when_spread(int64_t i, int64_t count, const Residency& residency);

// A buffer for each page on the device or in host memory, and slots for the largest of those not on the device.
struct PageMemory {
  static constexpr size_t kSlots = 2;     // one page is in use while the next is read
  std::vector<Buffer> resident, waiting;  // for each page, on the device and in host memory; empty: not there
  std::vector<std::byte*> lent;           // for each page of kLent: where it is; set after allocate()
  std::vector<Buffer> slots;
  // Between store and device: two pieces in host memory, one is read while the other is copied. Empty without need.
  Buffer staging;
  Allocator* allocator = &host_allocator();
  Device device() const { return allocator->device(); }
  // Where the page is on the device without a slot; null: nowhere.
  std::byte* stays(size_t page) const { return lent[page] != nullptr ? lent[page] : resident[page].data(); }

  struct Layout {
    std::vector<size_t> bytes;      // of each page
    std::vector<PagePlace> places;  // kHost: only of a device that is not the host
    size_t slots = kSlots;          // more: so many pages less one are in use at a time
    bool filled = true;             // resident pages come from the store; else what is there is made here
    bool store_in_host = false;     // PageStore::host_memory(): nothing is staged
    MemoryCategory category = MemoryCategory::kWeights;
    size_t piece_bytes = size_t{16} << 20;  // of what is staged; a multiple of DirectFile::kAlign
  };
  static Expected<PageMemory> allocate(const Layout& layout, Budget& budget);
};

// Transfers of pages: from and to the store, and over the link between host memory and device.
struct PagingCounts {
  uint64_t bytes_read = 0, bytes_written = 0;           // of the store
  uint64_t bytes_to_device = 0, bytes_from_device = 0;  // 0 where the device is the host
  double seconds_waited = 0;                            // of Pager::acquire()
  void add(const PagingCounts& more);
  PagingCounts since(const PagingCounts& before) const;
};

// Moves what the store says of a page between its place and device memory. One thread at a time.
class PageMover {
 public:
  // All outlive the mover.
  static Expected<PageMover> open(PageStore& store, PageMemory& memory);
  // Fills a page's buffer in host memory.
  Status fill_waiting(size_t page, const std::atomic<bool>& stop);
  // `target` and `data` are the page in device memory.
  Status fetch(size_t page, std::byte* target, const std::atomic<bool>& stop);
  Status write_back(size_t page, const std::byte* data, const std::atomic<bool>& stop);
  PagingCounts take_counts() { return std::exchange(counts_, {}); }

 private:
  PageMover(PageStore& store, PageMemory& memory) : store_(&store), memory_(&memory) {}
  Status read_in_pieces(size_t page, const PageRange& range, std::byte* target, const std::atomic<bool>& stop);
  Status write_in_pieces(size_t page, const PageRange& range, const std::byte* data, const std::atomic<bool>& stop);
  std::byte* waiting(size_t page) const { return memory_->waiting[page].data(); }
  const std::byte* in_host_memory(size_t page) const {
    return waiting(page) != nullptr ? waiting(page) : store_->host_memory(page);
  }

  PageStore* store_;
  PageMemory* memory_;
  std::unique_ptr<CopyQueue> copies_;  // null: the device is the host
  PagingCounts counts_;
};

// One page of a file in memory of its own (kWeights). Over a dry-run budget, where `file` is null, that memory and the
// staging memory on the way are counted.
Expected<Buffer> load_page(std::unique_ptr<DirectFile> file, const PageSpan& span, Budget& budget);

}  // namespace liveavatar
