#include "paging/pager.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "core/boundary.h"
#include "core/stop.h"

namespace liveavatar {

// Four independent chains, so that memory bandwidth is the limit.
uint64_t page_checksum(const std::byte* data, size_t bytes) {
  LA_CHECK(bytes % 32 == 0);
  uint64_t sums[4] = {1, 2, 3, 4};
  for (size_t at = 0; at < bytes; at += 32) {
    uint64_t words[4];
    std::memcpy(words, data + at, 32);
    for (int i = 0; i < 4; ++i) sums[i] = (sums[i] ^ words[i]) * 0x9E3779B97F4A7C15u + (sums[i] >> 31);
  }
  return sums[0] ^ (sums[1] * 3) ^ (sums[2] * 5) ^ (sums[3] * 7);
}

Status read_page(DirectFile& file, const PageSpan& span, std::byte* target, const std::atomic<bool>& stop) {
  LA_RETURN_IF_ERROR(file.read(span.offset, target, span.bytes, stop));
  if (!span.checksum || page_checksum(target, span.bytes) == *span.checksum) return {};
  return corrupt(file.path() + ": is damaged in the " + gb_text(span.bytes) + " behind byte " +
                 std::to_string(span.offset) + "; remove it, and run `liveavatar convert` or the job again");
}

Expected<uint64_t> FilePages::read(size_t page, std::byte* target, const std::atomic<bool>& stop) {
  LA_RETURN_IF_ERROR(read_page(*file_, spans_[page], target, stop));
  spans_[page].checksum.reset();
  return uint64_t{spans_[page].bytes};
}

Expected<uint64_t> FilePages::write(size_t, const std::byte*, const std::atomic<bool>&) {
  LA_CHECK(false && "these pages never change");
  return uint64_t{0};
}

Expected<PageMemory> PageMemory::allocate(const std::vector<size_t>& bytes, const std::vector<bool>& stays,
                                          MemoryCategory category, Budget& budget) {
  PageMemory memory;
  size_t largest = 0;
  for (size_t p = 0; p < bytes.size(); ++p) {
    Buffer buffer;
    if (stays[p]) {
      LA_ASSIGN_OR_RETURN(buffer, Buffer::allocate(budget, category, bytes[p]));
    } else {
      largest = std::max(largest, bytes[p]);
    }
    memory.resident.push_back(std::move(buffer));
  }
  for (size_t i = 0; i < kSlots && largest > 0; ++i) {
    LA_ASSIGN_OR_RETURN(Buffer slot, Buffer::allocate(budget, category, largest));
    memory.slots.push_back(std::move(slot));
  }
  memory.allocator = &budget.allocator();
  if (memory.device().is_host() || bytes.empty()) return memory;
  size_t widest = *std::max_element(bytes.begin(), bytes.end());
  LA_ASSIGN_OR_RETURN(memory.staging, Buffer::allocate(budget.host(), category, widest));
  return memory;
}

Status read_into(DirectFile* file, const PageSpan& span, Buffer& memory, Budget& budget) {
  const std::atomic<bool> never{false};
  Buffer staging;
  if (!memory.device().is_host()) {
    LA_ASSIGN_OR_RETURN(staging, Buffer::allocate(budget.host(), MemoryCategory::kWeights, span.bytes));
  }
  if (budget.dry_run()) return {};
  if (memory.device().is_host()) return read_page(*file, span, memory.data(), never);
  LA_RETURN_IF_ERROR(read_page(*file, span, staging.data(), never));
  return budget.allocator().write(memory.data(), staging.data(), span.bytes);
}

Pager::Pager(std::unique_ptr<PageStore> store, PageMemory memory, WorkQueue& queue)
    : store_(std::move(store)), memory_(std::move(memory)), queue_(queue) {
  for (const Buffer& slot : memory_.slots) slots_.push_back({slot.data()});
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
    const Buffer& resident = memory_.resident[p];
    LA_RETURN_IF_ERROR(check_stop(stop));
    if (resident.data() != nullptr) LA_RETURN_IF_ERROR(fetch(p, resident.data(), resident.bytes()).status());
  }
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
    if (memory_.resident[page].data() != nullptr || slot_of(page) != nullptr) continue;
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
    PagingCounts moved;
    lock.unlock();
    Status status = contained("paging", [&] { return exchange(*slot, old_page, page, moved); });
    lock.lock();
    counts_.bytes_read += moved.bytes_read;
    counts_.bytes_written += moved.bytes_written;
    slot->ready = true;
    slot->changed = false;
    if (!status.ok()) status_ = status;
    arrived_.notify_all();
  }
}

Status Pager::exchange(Slot& slot, int64_t old_page, size_t page, PagingCounts& moved) {
  queue_.wait(slot.used);
  if (slot.changed) {
    LA_ASSIGN_OR_RETURN(moved.bytes_written, write_back(static_cast<size_t>(old_page), slot.data));
  }
  LA_ASSIGN_OR_RETURN(moved.bytes_read, fetch(page, slot.data, memory_.slots.front().bytes()));
  return {};
}

Expected<uint64_t> Pager::fetch(size_t page, std::byte* target, size_t bytes) {
  if (memory_.device().is_host()) return store_->read(page, target, stop_);
  LA_ASSIGN_OR_RETURN(uint64_t moved, store_->read(page, memory_.staging.data(), stop_));
  LA_RETURN_IF_ERROR(memory_.allocator->write(target, memory_.staging.data(), bytes));
  return moved;
}

Expected<uint64_t> Pager::write_back(size_t page, const std::byte* data) {
  if (memory_.device().is_host()) return store_->write(page, data, stop_);
  LA_RETURN_IF_ERROR(memory_.allocator->read(data, memory_.staging.data(), memory_.slots.front().bytes()));
  return store_->write(page, memory_.staging.data(), stop_);
}

std::byte* Pager::acquire(size_t page) {
  std::unique_lock lock(mutex_);
  size_t ahead = next_use(static_cast<int64_t>(page));
  LA_CHECK(ahead < order_.size());
  std::byte* stays = memory_.resident[page].data();
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
