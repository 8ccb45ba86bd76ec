// Weights and caches in pages: some stay in memory, the others are brought from a store into a few slots, ahead of
// their use, by a thread of its own, and what changed in them is put away again. The order of use is known, so a slot
// goes to the page that is needed next and is taken from the one whose next use is farthest (Belady's rule, which no
// other order of eviction beats).
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/memory.h"
#include "paging/direct_file.h"

namespace liveavatar {

// Where pages are when they are not in memory. One thread calls it at a time; returned are the bytes that were moved.
class PageStore {
 public:
  virtual ~PageStore() = default;
  // kCancelled soon after `stop` is set.
  virtual Expected<uint64_t> read(size_t page, std::byte* target, const std::atomic<bool>& stop) = 0;
  // Puts away what changed. Called for pages alone that were let go as changed.
  virtual Expected<uint64_t> write(size_t page, const std::byte* data, const std::atomic<bool>& stop) = 0;
};

struct PageSpan {
  uint64_t offset = 0;  // in the file
  size_t bytes = 0;     // both multiples of DirectFile::kAlign
  std::optional<uint64_t> checksum = {};
};

uint64_t page_checksum(const std::byte* data, size_t bytes);
// A page of a file; kCorrupt where it is not what its checksum says.
Status read_page(DirectFile& file, const PageSpan& span, std::byte* target, const std::atomic<bool>& stop);

// Pages of a file that never change. Each is held against its checksum when it is read for the first time.
class FilePages : public PageStore {
 public:
  FilePages(std::unique_ptr<DirectFile> file, std::vector<PageSpan> spans)
      : file_(std::move(file)), spans_(std::move(spans)) {}
  Expected<uint64_t> read(size_t page, std::byte* target, const std::atomic<bool>& stop) override;
  Expected<uint64_t> write(size_t page, const std::byte* data, const std::atomic<bool>& stop) override;
  const DirectFile& file() const { return *file_; }

 private:
  std::unique_ptr<DirectFile> file_;
  std::vector<PageSpan> spans_;
};

// Memory of the pages: a buffer for each that stays, and slots that fit the largest of the others.
struct PageMemory {
  static constexpr size_t kSlots = 2;  // one is computed with while the other is read
  std::vector<Buffer> stay;            // a page each; empty: it has none
  std::vector<Buffer> slots;
  Buffer staging;  // of a device that is not the host: what is on its way between slots and store
  Allocator* allocator = &host_allocator();
  Device device() const { return allocator->device(); }
  // bytes, stays: a page each. Over a dry-run budget it is only counted.
  static Expected<PageMemory> allocate(const std::vector<size_t>& bytes, const std::vector<bool>& stays,
                                       MemoryCategory category, Budget& budget);
};

// Whether page i of `count` is one of the `resident` that stay, when these are spread evenly over all.
constexpr bool stays_when_spread(int64_t i, int64_t count, int64_t resident) {
  return (i + 1) * resident / count > i * resident / count;
}

// A page of a file -> the front of a buffer, over a second one of the host where it is not the host's memory.
Status read_into(DirectFile& file, const PageSpan& span, Buffer& memory, Budget& budget);

// Counts of what moved between memory and store.
struct PagingCounts {
  uint64_t bytes_read = 0;  // also ahead of a use that never came
  uint64_t bytes_written = 0;
  double seconds_waited = 0;  // pin() for the store
};

class Pager {
 public:
  // Starts the thread, if there are slots; where none can be had status() says so. The budget that memory is charged to
  // outlives the pager. The store is owned. queue: of the work that pages are used in.
  Pager(std::unique_ptr<PageStore> store, PageMemory memory, WorkQueue& queue);
  ~Pager();  // stops reading at once; what changed is not put away

  // Fills the pages that stay; others begin with what the store has.
  Status read_resident();

  // From now on pages are used in this order, again and again. Pages may be left out.
  void expect(std::vector<size_t> order);

  // Waits until the page is there, and holds it until release(). Pages are pinned one at a time, in the expected order
  // (some may be skipped). After a failure (status()) it returns at once, and the memory holds anything.
  std::byte* pin(size_t page);
  struct Use {
    bool changed = false;
    Event done;  // behind the work that used the page
  };
  void release(size_t page, const Use& use);

  Status status() const;
  PagingCounts counts() const;
  const PageStore& store() const { return *store_; }
  // For tests: the pages that the slots hold (or are being filled with), -1: none.
  std::vector<int64_t> held() const;

 private:
  static constexpr int64_t kNone = -1;
  struct Slot {
    std::byte* data = nullptr;
    int64_t page = kNone;
    bool ready = false, changed = false;
    int pins = 0;
    Event used;
  };
  void move_pages();
  // Without the lock: puts away what the slot held, if it changed, and brings the page.
  Status exchange(Slot& slot, int64_t old_page, size_t page, PagingCounts& moved);
  // Both under the lock. How far ahead the next use is; the order's length and more: never.
  size_t next_use(int64_t page) const;
  Slot* choose(size_t& page);
  // Between a slot or a page that stays and the store, which works in host memory.
  Expected<uint64_t> bring(size_t page, std::byte* target, size_t bytes);
  Expected<uint64_t> put_away(size_t page, const std::byte* data);
  Slot* slot_of(size_t page);

  std::unique_ptr<PageStore> store_;
  PageMemory memory_;
  WorkQueue& queue_;
  std::vector<Slot> slots_;

  mutable std::mutex mutex_;
  std::condition_variable work_, arrived_;
  std::vector<size_t> order_;
  size_t cursor_ = 0;  // place in the order of the next pin
  Status status_;
  std::atomic<bool> stop_{false};
  PagingCounts counts_;
  std::thread thread_;
};

}  // namespace liveavatar
