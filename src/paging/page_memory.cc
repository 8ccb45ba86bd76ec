#include "paging/page_memory.h"

#include <algorithm>

namespace liveavatar {
namespace {

// Whether item i of `count` is chosen, if `chosen` items are spread evenly over all.
bool spread(int64_t i, int64_t count, int64_t chosen) { return (i + 1) * chosen / count > i * chosen / count; }

}  // namespace

PagePlace place_when_spread(int64_t i, int64_t count, const Residency& residency) {
  if (spread(i, count, residency.device)) return PagePlace::kDevice;
  const int64_t others_before = i - i * residency.device / count;
  return spread(others_before, count - residency.device, residency.host) ? PagePlace::kHost : PagePlace::kStore;
}

Expected<PageMemory> PageMemory::allocate(const Layout& layout, Budget& budget) {
  PageMemory memory;
  memory.allocator = &budget.allocator();
  size_t largest = 0, largest_staged = 0;
  for (size_t p = 0; p < layout.bytes.size(); ++p) {
    const size_t bytes = layout.bytes[p];
    const PagePlace place = layout.places[p];
    Buffer resident, waiting;
    if (place == PagePlace::kDevice) {
      LA_ASSIGN_OR_RETURN(resident, Buffer::allocate(budget, layout.category, bytes));
    }
    if (place == PagePlace::kHost) {
      LA_CHECK(!memory.device().is_host());
      LA_ASSIGN_OR_RETURN(waiting, Buffer::allocate_staging(budget, layout.category, bytes));
    }
    const bool in_slots = place == PagePlace::kHost || place == PagePlace::kStore;
    if (in_slots) largest = std::max(largest, bytes);
    const bool from_store = place == PagePlace::kStore || (place == PagePlace::kDevice && layout.filled);
    if (from_store && !layout.store_in_host) largest_staged = std::max(largest_staged, bytes);
    memory.resident.push_back(std::move(resident));
    memory.waiting.push_back(std::move(waiting));
    memory.lent.push_back(nullptr);
  }
  for (size_t i = 0; i < layout.slots && largest > 0; ++i) {
    LA_ASSIGN_OR_RETURN(Buffer slot, Buffer::allocate(budget, layout.category, largest));
    memory.slots.push_back(std::move(slot));
  }
  if (memory.device().is_host() || largest_staged == 0) return memory;
  const size_t piece = std::min<size_t>(DirectFile::round_up(largest_staged), layout.piece_bytes);
  LA_ASSIGN_OR_RETURN(memory.staging, Buffer::allocate_staging(budget, layout.category, 2 * piece));
  return memory;
}

void PagingCounts::add(const PagingCounts& more) {
  bytes_read += more.bytes_read;
  bytes_written += more.bytes_written;
  bytes_to_device += more.bytes_to_device;
  bytes_from_device += more.bytes_from_device;
  seconds_waited += more.seconds_waited;
}

PagingCounts PagingCounts::since(const PagingCounts& before) const {
  return {bytes_read - before.bytes_read, bytes_written - before.bytes_written,
          bytes_to_device - before.bytes_to_device, bytes_from_device - before.bytes_from_device,
          seconds_waited - before.seconds_waited};
}

Expected<PageMover> PageMover::open(PageStore& store, PageMemory& memory) {
  PageMover mover(store, memory);
  if (memory.device().is_host()) return mover;
  LA_ASSIGN_OR_RETURN(mover.copies_, memory.allocator->open_copies());
  return mover;
}

Status PageMover::fill_waiting(size_t page, const std::atomic<bool>& stop) {
  for (const PageRange& range : store_->to_read(page)) {
    LA_RETURN_IF_ERROR(store_->read(page, range, waiting(page) + range.begin, stop));
    counts_.bytes_read += range.bytes;
  }
  return {};
}

Status PageMover::fetch(size_t page, std::byte* target, const std::atomic<bool>& stop) {
  const std::byte* host = in_host_memory(page);
  for (const PageRange& range : store_->to_read(page)) {
    if (copies_ == nullptr) {
      LA_RETURN_IF_ERROR(store_->read(page, range, target + range.begin, stop));
    } else if (host != nullptr) {
      copies_->write(target + range.begin, host + range.begin, range.bytes);
    } else {
      LA_RETURN_IF_ERROR(read_in_pieces(page, range, target + range.begin, stop));
    }
    if (host == nullptr) counts_.bytes_read += range.bytes;
    if (copies_ != nullptr) counts_.bytes_to_device += range.bytes;
  }
  return copies_ == nullptr ? Status() : copies_->finish();
}

Status PageMover::write_back(size_t page, const std::byte* data, const std::atomic<bool>& stop) {
  for (const PageRange& range : store_->to_write(page)) {
    if (copies_ == nullptr) {
      LA_RETURN_IF_ERROR(store_->write(page, range, data + range.begin, stop));
    } else if (waiting(page) != nullptr) {
      copies_->read(data + range.begin, waiting(page) + range.begin, range.bytes);
    } else {
      LA_RETURN_IF_ERROR(write_in_pieces(page, range, data + range.begin, stop));
    }
    if (waiting(page) == nullptr) counts_.bytes_written += range.bytes;
    if (copies_ != nullptr) counts_.bytes_from_device += range.bytes;
  }
  return copies_ == nullptr ? Status() : copies_->finish();
}

// While one piece is on its way to the device the next is read.
Status PageMover::read_in_pieces(size_t page, const PageRange& range, std::byte* target,
                                 const std::atomic<bool>& stop) {
  const size_t piece = memory_->staging.bytes() / 2;
  std::byte* half = memory_->staging.data();
  std::byte* other = half + piece;
  for (size_t done = 0; done < range.bytes; done += piece) {
    const size_t bytes = std::min(piece, range.bytes - done);
    LA_RETURN_IF_ERROR(store_->read(page, {range.begin + done, bytes}, half, stop));
    LA_RETURN_IF_ERROR(copies_->finish());
    copies_->write(target + done, half, bytes);
    std::swap(half, other);
  }
  return copies_->finish();
}

// While one piece is written the next is on its way from the device.
Status PageMover::write_in_pieces(size_t page, const PageRange& range, const std::byte* data,
                                  const std::atomic<bool>& stop) {
  const size_t piece = memory_->staging.bytes() / 2;
  std::byte* half = memory_->staging.data();
  std::byte* other = half + piece;
  auto copy = [&](size_t at, std::byte* to) {
    if (at < range.bytes) copies_->read(data + at, to, std::min(piece, range.bytes - at));
  };
  copy(0, half);
  for (size_t done = 0; done < range.bytes; done += piece) {
    LA_RETURN_IF_ERROR(copies_->finish());
    copy(done + piece, other);
    LA_RETURN_IF_ERROR(store_->write(page, {range.begin + done, std::min(piece, range.bytes - done)}, half, stop));
    std::swap(half, other);
  }
  return {};
}

Expected<Buffer> load_page(std::unique_ptr<DirectFile> file, const PageSpan& span, Budget& budget) {
  LA_ASSIGN_OR_RETURN(PageMemory memory, PageMemory::allocate({{span.bytes}, {PagePlace::kDevice}}, budget));
  if (budget.dry_run()) return std::move(memory.resident.front());
  FilePages store(std::move(file), {span});
  LA_ASSIGN_OR_RETURN(PageMover mover, PageMover::open(store, memory));
  const std::atomic<bool> never{false};
  LA_RETURN_IF_ERROR(mover.fetch(0, memory.resident.front().data(), never));
  return std::move(memory.resident.front());
}

}  // namespace liveavatar
