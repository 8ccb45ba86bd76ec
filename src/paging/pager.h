// Paging of weights and caches. Some pages are resident in the device's memory. A thread prefetches the others, from
// host memory or a store, into a few slots, and writes changed pages back. The access order is known: a slot gets the
// page that is needed next, and the page with the farthest next use is evicted (Belady's optimal rule).
#pragma once

#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <thread>

#include "paging/page_memory.h"

namespace liveavatar {

class Pager {
 public:
  // Starts the thread if there are slots. If it cannot start, status() has the error. The budget of `memory` outlives
  // the pager. queue: the queue of the work that uses the pages.
  Pager(std::unique_ptr<PageStore> store, PageMemory memory, WorkQueue& queue);
  ~Pager();  // stops transfers at once; changes are not written back

  // Reads the pages that stay on the device or in host memory from the store.
  Status read_resident(const std::stop_token& stop = {});

  // From now on pages are used in this order, again and again. Not all pages must be in it.
  void expect(std::vector<size_t> order);

  // Waits until the page is in memory, and keeps it there until release(). Pages are acquired in the expected order
  // (some may be skipped), no more at a time than there are slots. After a failure (status()) it returns at once, with
  // undefined content.
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
  // Without the lock: writes the slot's old page back if it changed, and fetches the new page.
  Status exchange(Slot& slot, int64_t old_page, size_t page);
  // Both with the lock held. Distance to the next use in the order; the order's length or more: never.
  size_t next_use(int64_t page) const;
  Slot* choose(size_t& page);
  Slot* slot_of(size_t page);

  std::unique_ptr<PageStore> store_;
  PageMemory memory_;
  std::optional<PageMover> mover_;  // none: status_ says why
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
