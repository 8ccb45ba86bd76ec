#include "weights/pager.h"

#include <algorithm>
#include <chrono>

namespace liveavatar {

Expected<PageMemory> PageMemory::allocate(const std::vector<PageSpan>& pages, const std::vector<bool>& stays,
                                          Budget& budget) {
  PageMemory memory;
  size_t largest = 0;
  for (size_t p = 0; p < pages.size(); ++p) {
    Buffer buffer;
    if (stays[p]) {
      LA_ASSIGN_OR_RETURN(buffer, Buffer::allocate(budget, Tenant::kWeights, pages[p].bytes));
    } else {
      largest = std::max(largest, pages[p].bytes);
    }
    memory.stay.push_back(std::move(buffer));
  }
  for (size_t i = 0; i < kSlots && largest > 0; ++i) {
    LA_ASSIGN_OR_RETURN(Buffer slot, Buffer::allocate(budget, Tenant::kWeights, largest));
    memory.slots.push_back(std::move(slot));
  }
  return memory;
}

WeightPager::WeightPager(std::unique_ptr<DirectFile> file, std::vector<PageSpan> pages, PageMemory memory)
    : file_(std::move(file)), pages_(std::move(pages)), memory_(std::move(memory)) {
  for (const Buffer& slot : memory_.slots) slots_.push_back({slot.data()});
}

Expected<std::unique_ptr<WeightPager>> WeightPager::open(std::unique_ptr<DirectFile> file, std::vector<PageSpan> pages,
                                                         PageMemory memory) {
  std::unique_ptr<WeightPager> pager(new WeightPager(std::move(file), std::move(pages), std::move(memory)));
  for (size_t p = 0; p < pager->pages_.size(); ++p) {
    const PageSpan& span = pager->pages_[p];
    std::byte* target = pager->memory_.stay[p].data();
    if (target != nullptr) LA_RETURN_IF_ERROR(pager->file_->read(span.offset, target, span.bytes, pager->stop_));
  }
  if (!pager->slots_.empty()) pager->thread_ = std::thread([raw = pager.get()] { raw->read_ahead(); });
  return pager;
}

WeightPager::~WeightPager() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void WeightPager::expect(std::vector<size_t> order) {
  {
    std::lock_guard lock(mutex_);
    order_ = std::move(order);
    cursor_ = 0;
  }
  work_.notify_all();
}

WeightPager::Slot* WeightPager::slot_of(size_t page) {
  auto slot = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& s) { return s.page == int64_t(page); });
  return slot == slots_.end() ? nullptr : &*slot;
}

size_t WeightPager::next_use(int64_t page) const {
  size_t ahead = 0;
  while (ahead < order_.size() && int64_t(order_[(cursor_ + ahead) % order_.size()]) != page) ++ahead;
  return ahead;
}

// The next page that is on disk alone, and the slot that it is worth reading into; null: nothing to do.
WeightPager::Slot* WeightPager::choose(size_t& page) {
  for (size_t ahead = 0; ahead < order_.size(); ++ahead) {
    page = order_[(cursor_ + ahead) % order_.size()];
    if (memory_.stay[page].data() != nullptr || slot_of(page) != nullptr) continue;
    Slot* farthest = nullptr;
    size_t distance = ahead;
    for (Slot& slot : slots_) {
      if (slot.pins > 0) continue;
      size_t next = slot.page == kNone ? order_.size() + 1 : next_use(slot.page);
      if (next > distance) {
        farthest = &slot;
        distance = next;
      }
    }
    return farthest;  // pages farther ahead are worth even less
  }
  return nullptr;
}

void WeightPager::read_ahead() {
  std::unique_lock lock(mutex_);
  while (!stop_ && status_.ok()) {
    size_t page = 0;
    Slot* slot = choose(page);
    if (slot == nullptr) {
      work_.wait(lock);
      continue;
    }
    slot->page = static_cast<int64_t>(page);
    slot->ready = false;
    lock.unlock();
    Status status = file_->read(pages_[page].offset, slot->data, pages_[page].bytes, stop_);
    lock.lock();
    bytes_read_ += pages_[page].bytes;
    slot->ready = true;
    if (!status.ok()) status_ = status;
    arrived_.notify_all();
  }
}

const std::byte* WeightPager::pin(size_t page) {
  if (const std::byte* stays = memory_.stay[page].data()) {
    std::lock_guard lock(mutex_);
    size_t ahead = next_use(static_cast<int64_t>(page));
    LA_CHECK(ahead < order_.size());
    cursor_ = (cursor_ + ahead + 1) % order_.size();
    return stays;
  }
  std::unique_lock lock(mutex_);
  size_t ahead = next_use(static_cast<int64_t>(page));
  LA_CHECK(ahead < order_.size());
  cursor_ = (cursor_ + ahead) % order_.size();
  work_.notify_all();
  auto since = std::chrono::steady_clock::now();
  Slot* slot = nullptr;
  arrived_.wait(lock, [&] {
    slot = slot_of(page);
    return !status_.ok() || (slot != nullptr && slot->ready);
  });
  seconds_waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
  cursor_ = (cursor_ + 1) % order_.size();
  if (!status_.ok()) return slots_.front().data;
  ++slot->pins;
  return slot->data;
}

void WeightPager::release(size_t page) {
  {
    std::lock_guard lock(mutex_);
    Slot* slot = slot_of(page);
    if (slot != nullptr && slot->pins > 0) --slot->pins;
  }
  work_.notify_all();
}

Status WeightPager::status() const {
  std::lock_guard lock(mutex_);
  return status_;
}

uint64_t WeightPager::bytes_read() const {
  std::lock_guard lock(mutex_);
  return bytes_read_;
}

double WeightPager::seconds_waited() const {
  std::lock_guard lock(mutex_);
  return seconds_waited_;
}

std::vector<int64_t> WeightPager::held() const {
  std::lock_guard lock(mutex_);
  std::vector<int64_t> pages;
  for (const Slot& slot : slots_) pages.push_back(slot.page);
  return pages;
}

}  // namespace liveavatar
