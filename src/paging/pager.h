// Paging of weights and caches. Some pages are resident in memory. A thread prefetches the others from a store into a
// few slots, and writes changed pages back. The access order is known: a slot gets the page that is needed next, and
// the page with the farthest next use is evicted (Belady's optimal rule).
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

#include "core/memory.h"
#include "paging/direct_file.h"

namespace liveavatar {

// Storage of pages that are not in memory. One thread calls it at a time. Functions return the bytes they moved.
class PageStore {
 public:
  virtual ~PageStore() = default;
  // kCancelled soon after `stop` is set.
  virtual Expected<uint64_t> read(size_t page, std::byte* target, const std::atomic<bool>& stop) = 0;
  // Writes changes back. Called only for pages that were released as changed.
  virtual Expected<uint64_t> write(size_t page, const std::byte* data, const std::atomic<bool>& stop) = 0;
};

struct PageSpan {
  uint64_t offset = 0;  // in the file
  size_t bytes = 0;     // both multiples of DirectFile::kAlign
  std::optional<uint64_t> checksum = {};
};

uint64_t page_checksum(const std::byte* data, size_t bytes);
// Reads a page of a file. kCorrupt if the checksum does not match.
Status read_page(DirectFile& file, const PageSpan& span, std::byte* target, const std::atomic<bool>& stop);

// Read-only pages of a file. The first read of each page verifies its checksum.
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

// Memory of the pages: a buffer for each resident page, and slots for the largest of the others.
struct PageMemory {
  static constexpr size_t kSlots = 2;  // one is in use while the other is read
  std::vector<Buffer> resident;        // for each page; empty: not resident
  std::vector<Buffer> slots;
  Buffer staging;  // host memory between store and slots, if the slots are in device memory
  Allocator* allocator = &host_allocator();
  Device device() const { return allocator->device(); }
  // bytes, stays: for each page its size, and whether it is resident.
  static Expected<PageMemory> allocate(const std::vector<size_t>& bytes, const std::vector<bool>& stays,
                                       MemoryCategory category, Budget& budget);
};

// Whether page i of `count` is resident, if `resident` pages are spread evenly over all.
constexpr bool resident_when_spread(int64_t i, int64_t count, int64_t resident) {
  return (i + 1) * resident / count > i * resident / count;
}

// Reads a page of a file into the front of a buffer, through host staging memory if the buffer is in device memory.
// Over a dry-run budget, where `file` is null, only that memory is counted.
Status read_into(DirectFile* file, const PageSpan& span, Buffer& memory, Budget& budget);

// Transfers between memory and store.
struct PagingCounts {
  uint64_t bytes_read = 0;  // includes prefetched pages that were never used
  uint64_t bytes_written = 0;
  double seconds_waited = 0;  // of acquire() for the store
};

class Pager {
 public:
  // Starts the thread if there are slots. If the thread cannot start, status() has the error. The budget of `memory`
  // outlives the pager. queue: the queue of the work that uses the pages.
  Pager(std::unique_ptr<PageStore> store, PageMemory memory, WorkQueue& queue);
  ~Pager();  // stops transfers at once; changes are not written back

  // Reads the resident pages from the store.
  Status read_resident(const std::stop_token& stop = {});

  // From now on pages are used in this order, again and again. Not all pages must be in it.
  void expect(std::vector<size_t> order);

  // Waits until the page is in memory, and keeps it there until release(). One page is acquired at a time, in the
  // expected order (some may be skipped). After a failure (status()) it returns at once, with undefined content.
  std::byte* acquire(size_t page);
  struct Use {
    bool changed = false;
    Event done;  // after the work that used the page
  };
  void release(size_t page, const Use& use);

  Status status() const;
  PagingCounts counts() const;
  const PageStore& store() const { return *store_; }
  // For tests: the page in each slot (or being read into it), -1: none.
  std::vector<int64_t> held() const;

 private:
  static constexpr int64_t kNone = -1;
  struct Slot {
    std::byte* data = nullptr;
    int64_t page = kNone;
    bool ready = false, changed = false;
    int users = 0;
    Event used;
  };
  void move_pages();
  // Without the lock: writes the slot's old page back if it changed, and reads the new page.
  Status exchange(Slot& slot, int64_t old_page, size_t page, PagingCounts& moved);
  // Both with the lock held. Distance to the next use in the order; the order's length or more: never.
  size_t next_use(int64_t page) const;
  Slot* choose(size_t& page);
  // Transfers between the store, which uses host memory, and a slot or a resident page.
  Expected<uint64_t> fetch(size_t page, std::byte* target, size_t bytes);
  Expected<uint64_t> write_back(size_t page, const std::byte* data);
  Slot* slot_of(size_t page);

  std::unique_ptr<PageStore> store_;
  PageMemory memory_;
  WorkQueue& queue_;
  std::vector<Slot> slots_;

  mutable std::mutex mutex_;
  std::condition_variable work_, arrived_;
  std::vector<size_t> order_;
  size_t cursor_ = 0;  // index in order_ of the next acquire()
  Status status_;
  std::atomic<bool> stop_{false};
  PagingCounts counts_;
  std::thread thread_;
};

}  // namespace liveavatar
