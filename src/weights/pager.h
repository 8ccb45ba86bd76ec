// Weights in pages: some stay in memory, the others are read from a file into a few slots, ahead of their use, by a
// thread of its own. The order of use is known, so a slot goes to the page that is needed next and is taken from the
// one whose next use is farthest (Belady's rule, which no other order of eviction beats).
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/memory.h"
#include "weights/direct_file.h"

namespace liveavatar {

struct PageSpan {
  uint64_t offset = 0;  // in the file
  size_t bytes = 0;     // both multiples of DirectFile::kAlign
};

// Memory of the pages: a buffer for each that stays, and slots that fit the largest of the others.
struct PageMemory {
  static constexpr size_t kSlots = 2;  // one is computed with while the other is read
  std::vector<Buffer> stay;            // a page each; empty: it has none
  std::vector<Buffer> slots;
  // stays: a page each. Charged to Tenant::kWeights; over a measuring budget only counted.
  static Expected<PageMemory> allocate(const std::vector<PageSpan>& pages, const std::vector<bool>& stays,
                                       Budget& budget);
};

class WeightPager {
 public:
  // Reads the pages that stay, then starts the thread. The budget that memory is charged to outlives the pager.
  static Expected<std::unique_ptr<WeightPager>> open(std::unique_ptr<DirectFile> file, std::vector<PageSpan> pages,
                                                     PageMemory memory);
  ~WeightPager();  // stops reading at once

  // From now on pages are used in this order, again and again. Pages may be left out.
  void expect(std::vector<size_t> order);

  // Waits until the page is there, and holds it until release(). Pages are pinned one at a time, in the expected order
  // (one may be skipped). After a failure (status()) it returns at once, and the memory holds anything.
  const std::byte* pin(size_t page);
  void release(size_t page);

  Status status() const;
  // Of all pages that were read into slots, also ahead of a use that never came.
  uint64_t bytes_read() const;
  double seconds_waited() const;
  bool direct() const { return file_->direct(); }
  // For tests: the pages that the slots hold (or are being filled with), -1: none.
  std::vector<int64_t> held() const;

 private:
  static constexpr int64_t kNone = -1;
  struct Slot {
    std::byte* data = nullptr;
    int64_t page = kNone;
    bool ready = false;
    int pins = 0;
  };
  WeightPager(std::unique_ptr<DirectFile> file, std::vector<PageSpan> pages, PageMemory memory);
  void read_ahead();
  // Both under the lock. How far ahead the next use is; the order's length and more: never.
  size_t next_use(int64_t page) const;
  Slot* choose(size_t& page);
  Slot* slot_of(size_t page);

  std::unique_ptr<DirectFile> file_;
  std::vector<PageSpan> pages_;
  PageMemory memory_;
  std::vector<Slot> slots_;

  mutable std::mutex mutex_;
  std::condition_variable work_, arrived_;
  std::vector<size_t> order_;
  size_t cursor_ = 0;  // place in the order of the next pin
  Status status_;
  std::atomic<bool> stop_{false};
  uint64_t bytes_read_ = 0;
  double seconds_waited_ = 0;
  std::thread thread_;
};

}  // namespace liveavatar
