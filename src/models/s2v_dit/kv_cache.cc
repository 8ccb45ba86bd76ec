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

size_t cache_bytes(const KvCacheShape& s) {
  Arena dry_run;
  allocate_parts(s, [&](const Shape& shape, DType dtype) { return dry_run.tensor(shape, dtype); });
  return DirectFile::round_up(dry_run.used_bytes());
}

// Whether a cache stays in memory. These are spread evenly over the layers, with other steps from layer to layer, so
// that reads overlap with computation in every schedule.
bool is_resident(const KvCacheShape& s, int64_t page) {
  int64_t layer = page / s.steps, step = page % s.steps, i = layer * s.steps + (step + layer) % s.steps;
  return resident_when_spread(i, s.count(), s.in_memory());
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
  std::vector<size_t> bytes(static_cast<size_t>(shape.count()), cache_bytes(shape));
  std::vector<bool> resident;
  for (int64_t p = 0; p < shape.count(); ++p) resident.push_back(is_resident(shape, p));
  return PageMemory::allocate(bytes, resident, MemoryCategory::kKvCache, budget);
}

uint64_t kv_cache_bytes_per_block(const KvCacheShape& shape) {
  return shape.paged() ? static_cast<uint64_t>(shape.count() - shape.resident) * cache_bytes(shape) : 0;
}

// The caches on disk. The state of a page changes only while the page is acquired, and is read only while it is not:
// the pager's lock orders the two.
class PagedKvCaches::Store : public PageStore {
 public:
  Store(const KvCacheShape& shape, std::unique_ptr<DirectFile> file)
      : shape_(shape), slots_(shape.geometry.clip_latents / shape.geometry.block_latents), file_(std::move(file)) {
    uint64_t offset = 0, bytes = cache_bytes(shape);
    for (int64_t p = 0; p < shape.count(); ++p) {
      pages_.push_back({offset, 0, 0, std::vector<char>(static_cast<size_t>(slots_), false)});
      if (!is_resident(shape, p)) offset += bytes;
    }
  }

  Expected<uint64_t> read(size_t page, std::byte* target, const std::atomic<bool>& stop) override {
    const Page& p = pages_[page];
    uint64_t moved = 0;
    auto fetch = [&](size_t begin, size_t end) {
      moved += end - begin;
      return file_->read(p.offset + begin, target + begin, end - begin, stop);
    };
    LA_RETURN_IF_ERROR(each_range(target, 0, std::min(p.filled, p.next), fetch));
    LA_RETURN_IF_ERROR(each_range(target, p.next + 1, p.filled, fetch));
    return moved;
  }

  Expected<uint64_t> write(size_t page, const std::byte* data, const std::atomic<bool>& stop) override {
    Page& p = pages_[page];
    uint64_t moved = 0;
    auto write_back = [&](size_t begin, size_t end) {
      moved += end - begin;
      return file_->write(p.offset + begin, data + begin, end - begin, stop);
    };
    for (int64_t slot = 0; slot < slots_; ++slot) {
      const bool changed = std::exchange(p.changed[static_cast<size_t>(slot)], false);
      if (!changed) continue;
      LA_RETURN_IF_ERROR(each_range(const_cast<std::byte*>(data), slot, slot + 1, write_back));
    }
    return moved;
  }

  void wrote(size_t page, int64_t slot) {
    Page& p = pages_[page];
    LA_CHECK(slot == p.next);
    p.changed[static_cast<size_t>(slot)] = true;
    p.filled = std::max(p.filled, slot + 1);
    p.next = (slot + 1) % slots_;
  }

 private:
  struct Page {
    uint64_t offset = 0;
    int64_t filled = 0, next = 0;  // slots with content; the slot that is written next
    std::vector<char> changed;     // for each slot: not on disk yet
  };

  // visit(begin, end) for slots [first, last) of every part of a page, rounded out to whole sectors. The bytes beside
  // them are the same as on disk, or not in use yet.
  template <typename Visit>
  Status each_range(std::byte* data, int64_t first, int64_t last, const Visit& visit) const {
    if (first >= last) return {};
    const KeyValues kv = view_cache(shape_, data, {});
    int64_t rows = shape_.geometry.block_tokens();
    for (const Tensor& part : {kv.k, kv.v, kv.k_scale, kv.v_scale}) {
      if (part.empty()) continue;
      const Tensor range = part.slice(first * rows, (last - first) * rows);
      size_t begin = static_cast<size_t>(static_cast<std::byte*>(range.address()) - data);
      LA_RETURN_IF_ERROR(visit(begin / DirectFile::kAlign * DirectFile::kAlign,
                               static_cast<size_t>(DirectFile::round_up(begin + range.bytes()))));
    }
    return {};
  }

  KvCacheShape shape_;
  int64_t slots_;
  std::unique_ptr<DirectFile> file_;
  std::vector<Page> pages_;
};

Expected<std::unique_ptr<PagedKvCaches>> PagedKvCaches::open(const KvCacheShape& shape, const std::string& folder,
                                                             PageMemory memory, WorkQueue& queue) {
  std::unique_ptr<PagedKvCaches> caches(new PagedKvCaches(shape));
  LA_ASSIGN_OR_RETURN(
      std::unique_ptr<DirectFile> file,
      DirectFile::scratch(folder, static_cast<uint64_t>(shape.count() - shape.resident) * cache_bytes(shape)));
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

void PagedKvCaches::expect(std::span<const KvCacheKey> uses) {
  std::vector<size_t> order;
  for (const KvCacheKey& use : uses) order.push_back(page_of(use));
  pager_->expect(std::move(order));
}

}  // namespace liveavatar
