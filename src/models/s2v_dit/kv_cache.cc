#include "models/s2v_dit/kv_cache.h"

#include <algorithm>

#include "core/quantise.h"

namespace liveavatar {
namespace {

// The parts of one cache. place(shape, dtype) allocates each part.
template <typename Place>
KeyValues allocate_parts(const KvCacheShape& s, const Place& place) {
  Shape rows{s.geometry.kv_cache_tokens(), s.config.dim}, scales{s.geometry.kv_cache_tokens(), s.config.heads};
  KeyValues kv;
  kv.k = place(rows, s.dtype);
  kv.v = place(rows, s.dtype);
  if (!is_8bit(s.dtype)) return kv;
  kv.k_scale = place(scales, DType::kF32);
  kv.v_scale = place(scales, DType::kF32);
  return kv;
}

// A view of a cache as one page: one part after the other.
KeyValues view_cache(const KvCacheShape& s, std::byte* data, Device device) {
  size_t at = 0;
  return allocate_parts(s, [&](const Shape& shape, DType dtype) {
    Tensor part(data + at, shape, dtype, device);
    at += (part.bytes() + 63) / 64 * 64;
    return part;
  });
}

// Where the parts of that page are.
struct Part {
  size_t begin = 0, row_bytes = 0;
};
std::vector<Part> parts_of_page(const KvCacheShape& s) {
  std::vector<Part> parts;
  size_t at = 0;
  allocate_parts(s, [&](const Shape& shape, DType dtype) {
    const Tensor part(nullptr, shape, dtype);
    parts.push_back({at, part.bytes() / static_cast<size_t>(shape[0])});
    at += (part.bytes() + 63) / 64 * 64;
    return part;
  });
  return parts;
}

size_t cache_bytes(const KvCacheShape& s) {
  Arena dry_run;
  allocate_parts(s, [&](const Shape& shape, DType dtype) { return dry_run.tensor(shape, dtype); });
  return DirectFile::round_up(dry_run.used_bytes());
}

// Caches of a place are spread evenly over the layers, with other steps from layer to layer, so that transfers overlap
// with computation in every schedule.
PagePlace place_of(const KvCacheShape& s, int64_t page) {
  int64_t layer = page / s.steps, step = page % s.steps, i = layer * s.steps + (step + layer) % s.steps;
  return place_when_spread(i, s.count(), {s.in_memory(), s.host});
}

}  // namespace

ResidentKvCaches::ResidentKvCaches(const KvCacheShape& shape, Arena& arena) {
  for (int64_t step = 0; step < shape.steps; ++step) {
    std::vector<KeyValues>& layers = steps_.emplace_back();
    for (int64_t i = 0; i < shape.config.layers; ++i)
      layers.push_back(allocate_parts(shape, [&](const Shape& s, DType dtype) { return arena.tensor(s, dtype); }));
  }
}

KeyValues ResidentKvCaches::acquire(const KvCacheKey& key) {
  return steps_[static_cast<size_t>(key.step)][static_cast<size_t>(key.layer)];
}

Expected<PageMemory> allocate_kv_cache_pages(const KvCacheShape& shape, Budget& budget) {
  PageMemory::Layout layout;
  layout.bytes.assign(static_cast<size_t>(shape.count()), cache_bytes(shape));
  for (int64_t p = 0; p < shape.count(); ++p) layout.places.push_back(place_of(shape, p));
  layout.filled = false;
  layout.category = MemoryCategory::kKvCache;
  return PageMemory::allocate(layout, budget);
}

uint64_t kv_cache_bytes_per_block(const KvCacheShape& shape, int64_t caches) {
  return static_cast<uint64_t>(caches) * cache_bytes(shape);
}

// What of the caches is where. The state of a page changes only while the page is acquired, and is read only while it
// is not: the pager's lock orders the two.
class PagedKvCaches::Store : public PageStore {
 public:
  // file: null if none is on disk.
  Store(const KvCacheShape& shape, std::unique_ptr<DirectFile> file)
      : shape_(shape),
        slots_(shape.geometry.clip_latents / shape.geometry.block_latents),
        parts_(parts_of_page(shape)),
        file_(std::move(file)) {
    uint64_t offset = 0, bytes = cache_bytes(shape);
    for (int64_t p = 0; p < shape.count(); ++p) {
      pages_.push_back({offset, 0, 0, std::vector<char>(static_cast<size_t>(slots_), false)});
      if (place_of(shape, p) == PagePlace::kStore) offset += bytes;
    }
  }

  std::vector<PageRange> to_read(size_t page) const override {
    const Page& p = pages_[page];
    std::vector<PageRange> ranges;
    add_ranges(0, std::min(p.filled, p.next), ranges);
    add_ranges(p.next + 1, p.filled, ranges);
    return merged(std::move(ranges));
  }

  std::vector<PageRange> to_write(size_t page) override {
    std::vector<PageRange> ranges;
    for (int64_t slot = 0; slot < slots_; ++slot) {
      const bool changed = std::exchange(pages_[page].changed[static_cast<size_t>(slot)], false);
      if (changed) add_ranges(slot, slot + 1, ranges);
    }
    return merged(std::move(ranges));
  }

  Status read(size_t page, const PageRange& range, std::byte* target, const std::atomic<bool>& stop) override {
    return file_->read(pages_[page].offset + range.begin, target, range.bytes, stop);
  }

  Status write(size_t page, const PageRange& range, const std::byte* data, const std::atomic<bool>& stop) override {
    return file_->write(pages_[page].offset + range.begin, data, range.bytes, stop);
  }

  void wrote(size_t page, int64_t slot) {
    Page& p = pages_[page];
    if (slot == 0 && p.next != 0) {  // the blocks before are forgotten
      p.filled = 0;
      std::fill(p.changed.begin(), p.changed.end(), false);
      p.next = 0;
    }
    LA_CHECK(slot == p.next);
    p.changed[static_cast<size_t>(slot)] = true;
    p.filled = std::max(p.filled, slot + 1);
    p.next = (slot + 1) % slots_;
  }

  void filled(size_t page, const Filled& slots) {
    Page& p = pages_[page];
    p.filled = slots.filled;
    p.next = slots.next;
    for (int64_t slot = 0; slot < slots.filled; ++slot) p.changed[static_cast<size_t>(slot)] = true;
  }

 private:
  struct Page {
    uint64_t offset = 0;
    int64_t filled = 0, next = 0;  // slots with content; the slot that is written next
    std::vector<char> changed;     // for each slot: not on disk yet
  };

  // Slots [first, last) of every part of a page, rounded out to whole sectors. The bytes beside them are the same where
  // they go, or not in use yet.
  void add_ranges(int64_t first, int64_t last, std::vector<PageRange>& ranges) const {
    if (first >= last) return;
    const auto rows = static_cast<size_t>(shape_.geometry.block_tokens());
    for (const Part& part : parts_) {
      const size_t at = part.begin + static_cast<size_t>(first) * rows * part.row_bytes;
      const size_t end = part.begin + static_cast<size_t>(last) * rows * part.row_bytes;
      const size_t begin = at / DirectFile::kAlign * DirectFile::kAlign;
      ranges.push_back({begin, static_cast<size_t>(DirectFile::round_up(end)) - begin});
    }
  }

  // In ascending order; what touches is one.
  static std::vector<PageRange> merged(std::vector<PageRange> ranges) {
    std::sort(ranges.begin(), ranges.end(), [](auto& a, auto& b) { return a.begin < b.begin; });
    std::vector<PageRange> result;
    for (const PageRange& range : ranges) {
      const size_t end = range.begin + range.bytes;
      if (result.empty() || result.back().begin + result.back().bytes < range.begin) {
        result.push_back(range);
      } else {
        result.back().bytes = std::max(result.back().bytes, end - result.back().begin);
      }
    }
    return result;
  }

  KvCacheShape shape_;
  int64_t slots_;
  std::vector<Part> parts_;
  std::unique_ptr<DirectFile> file_;
  std::vector<Page> pages_;
};

Expected<std::unique_ptr<PagedKvCaches>> PagedKvCaches::open(const KvCacheShape& shape, const std::string& folder,
                                                             PageMemory memory, WorkQueue& queue) {
  std::unique_ptr<PagedKvCaches> caches(new PagedKvCaches(shape));
  std::unique_ptr<DirectFile> file;
  if (shape.on_disk() > 0) {
    LA_ASSIGN_OR_RETURN(file, DirectFile::scratch(folder, kv_cache_bytes_per_block(shape, shape.on_disk())));
  }
  auto store = std::make_unique<Store>(shape, std::move(file));
  caches->store_ = store.get();
  caches->device_ = memory.device();
  caches->pager_ = std::make_unique<Pager>(std::move(store), std::move(memory), queue);
  return caches;
}

size_t PagedKvCaches::page_of(const KvCacheKey& key) const {
  return static_cast<size_t>(key.layer * shape_.steps + key.step);
}

KeyValues PagedKvCaches::acquire(const KvCacheKey& key) {
  return view_cache(shape_, pager_->acquire(page_of(key)), device_);
}

void PagedKvCaches::release(const KvCacheKey& key, int64_t slot, Event used) {
  store_->wrote(page_of(key), slot);
  pager_->release(page_of(key), {true, used});
}

void PagedKvCaches::release_unchanged(const KvCacheKey& key, Event used) {
  pager_->release(page_of(key), {false, used});
}

void PagedKvCaches::release_filled(const KvCacheKey& key, const Filled& slots, Event used) {
  store_->filled(page_of(key), slots);
  pager_->release(page_of(key), {true, used});
}

void PagedKvCaches::expect(std::span<const KvCacheKey> uses) {
  std::vector<size_t> order;
  for (const KvCacheKey& use : uses) order.push_back(page_of(use));
  pager_->expect(std::move(order));
}

}  // namespace liveavatar
