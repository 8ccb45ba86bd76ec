#include "paging/pager.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "core/boundary.h"
#include "core/stop.h"

namespace liveavatar {

Pager::Pager(std::unique_ptr<PageStore> store, PageMemory memory, WorkQueue& queue)
    : store_(std::move(store)), memory_(std::move(memory)), queue_(queue) {
  for (const Buffer& slot : memory_.slots) slots_.push_back({slot.data()});
  Expected<PageMover> mover = PageMover::open(*store_, memory_);
  status_ = mover.status();
  if (!mover.ok()) return;
  mover_ = *std::move(mover);
  if (slots_.empty()) return;
  try {
    thread_ = std::thread([this] { move_pages(); });
  } catch (const std::exception& e) {
    status_ = out_of_memory(std::string("paging: the system gives no thread for it (") + e.what() +
                            "); raise the limit of processes or memory (ulimit -u, -v)");
  }
}

Status Pager::read_resident(const std::stop_token& stop) {
  LA_RETURN_IF_ERROR(status());
  for (size_t p = 0; p < memory_.resident.size(); ++p) {
    std::byte* resident = memory_.resident[p].data();
    LA_RETURN_IF_ERROR(check_stop(stop));
    if (resident != nullptr) LA_RETURN_IF_ERROR(mover_->fetch(p, resident, stop_));
    if (memory_.waiting[p].data() != nullptr) LA_RETURN_IF_ERROR(mover_->fill_waiting(p, stop_));
  }
  mover_->take_counts();
  return {};
}

Pager::~Pager() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Pager::expect(std::vector<size_t> order) {
  {
    std::lock_guard lock(mutex_);
    order_ = std::move(order);
    cursor_ = 0;
  }
  work_.notify_all();
}

Pager::Slot* Pager::slot_of(size_t page) {
  auto slot = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& s) { return s.page == int64_t(page); });
  return slot == slots_.end() ? nullptr : &*slot;
}

size_t Pager::next_use(int64_t page) const {
  size_t ahead = 0;
  while (ahead < order_.size() && int64_t(order_[(cursor_ + ahead) % order_.size()]) != page) ++ahead;
  return ahead;
}

// The next page that is not in memory, and the slot to read it into. Null: nothing to do.
Pager::Slot* Pager::choose(size_t& page) {
  for (size_t ahead = 0; ahead < order_.size(); ++ahead) {
    page = order_[(cursor_ + ahead) % order_.size()];
    if (memory_.stays(page) != nullptr || slot_of(page) != nullptr) continue;
    Slot* farthest = nullptr;
    size_t distance = ahead;
    for (Slot& slot : slots_) {
      if (slot.users > 0) continue;
      size_t next = slot.page == kNone ? order_.size() + 1 : next_use(slot.page);
      if (next > distance) {
        farthest = &slot;
        distance = next;
      }
    }
    return farthest;  // pages farther ahead are needed even later
  }
  return nullptr;
}

void Pager::move_pages() {
  std::unique_lock lock(mutex_);
  while (!stop_ && status_.ok()) {
    size_t page = 0;
    Slot* slot = choose(page);
    if (slot == nullptr) {
      work_.wait(lock);
      continue;
    }
    int64_t old_page = std::exchange(slot->page, static_cast<int64_t>(page));
    slot->ready = false;
    lock.unlock();
    Status status = contained("paging", [&] { return exchange(*slot, old_page, page); });
    lock.lock();
    counts_.add(mover_->take_counts());
    slot->ready = true;
    slot->changed = false;
    if (!status.ok()) status_ = status;
    arrived_.notify_all();
  }
}

Status Pager::exchange(Slot& slot, int64_t old_page, size_t page) {
  queue_.wait(slot.used);
  if (slot.changed) LA_RETURN_IF_ERROR(mover_->write_back(static_cast<size_t>(old_page), slot.data, stop_));
  return mover_->fetch(page, slot.data, stop_);
}

std::byte* Pager::acquire(size_t page) {
  std::unique_lock lock(mutex_);
  size_t ahead = next_use(static_cast<int64_t>(page));
  LA_CHECK(ahead < order_.size());
  std::byte* stays = memory_.stays(page);
  if (stays != nullptr) {
    cursor_ = (cursor_ + ahead + 1) % order_.size();
    return stays;
  }
  // The cursor stays at this page until it is in memory, so that the thread reads it first.
  cursor_ = (cursor_ + ahead) % order_.size();
  work_.notify_all();
  auto since = std::chrono::steady_clock::now();
  Slot* slot = nullptr;
  arrived_.wait(lock, [&] {
    slot = slot_of(page);
    return !status_.ok() || (slot != nullptr && slot->ready);
  });
  counts_.seconds_waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
  cursor_ = (cursor_ + 1) % order_.size();
  if (!status_.ok()) return slots_.front().data;
  ++slot->users;
  return slot->data;
}

void Pager::release(size_t page, const Use& use) {
  {
    std::lock_guard lock(mutex_);
    Slot* slot = slot_of(page);
    if (slot != nullptr && slot->users > 0) --slot->users;
    if (slot != nullptr) slot->used = use.done;
    if (slot != nullptr && use.changed) slot->changed = true;
  }
  work_.notify_all();
}

Status Pager::status() const {
  std::lock_guard lock(mutex_);
  return status_;
}

PagingCounts Pager::counts() const {
  std::lock_guard lock(mutex_);
  return counts_;
}

std::vector<int64_t> Pager::held() const {
  std::lock_guard lock(mutex_);
  std::vector<int64_t> pages;
  for (const Slot& slot : slots_) pages.push_back(slot.page);
  return pages;
}

}  // namespace liveavatar
