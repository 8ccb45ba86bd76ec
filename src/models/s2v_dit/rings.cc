#include "models/s2v_dit/rings.h"

#include <algorithm>

#include "core/quantise.h"

namespace liveavatar {
namespace {

// One ring; take(shape, dtype) gives its parts a place.
template <typename Take>
KeyValues lay_out(const RingShape& s, const Take& take) {
  Shape rows{s.geometry.ring_tokens(), s.config.dim}, scales{s.geometry.ring_tokens(), s.config.heads};
  KeyValues kv;
  kv.k = take(rows, s.dtype);
  kv.v = take(rows, s.dtype);
  if (!is_8bit(s.dtype)) return kv;
  kv.k_scale = take(scales, DType::kF32);
  kv.v_scale = take(scales, DType::kF32);
  return kv;
}

// A ring as a page: one part behind the other.
KeyValues view_page(const RingShape& s, std::byte* data, Device device) {
  size_t at = 0;
  return lay_out(s, [&](const Shape& shape, DType dtype) {
    Tensor part(data + at, shape, dtype, device);
    at += (part.bytes() + 63) / 64 * 64;
    return part;
  });
}

size_t page_bytes(const RingShape& s) {
  Arena measure;
  lay_out(s, [&](const Shape& shape, DType dtype) { return measure.tensor(shape, dtype); });
  return DirectFile::round_up(measure.used_bytes());
}

// Which rings stay: spread evenly over the layers, and from layer to layer over other steps, so that reading and
// computing overlap in every schedule.
bool stays(const RingShape& s, int64_t page) {
  int64_t layer = page / s.steps, step = page % s.steps, i = layer * s.steps + (step + layer) % s.steps;
  return stays_when_spread(i, s.count(), s.in_memory());
}

}  // namespace

ResidentRings::ResidentRings(const RingShape& shape, Arena& arena) {
  for (int64_t step = 0; step < shape.steps; ++step) {
    std::vector<KeyValues>& layers = steps_.emplace_back();
    for (int64_t i = 0; i < shape.config.layers; ++i)
      layers.push_back(lay_out(shape, [&](const Shape& s, DType dtype) { return arena.tensor(s, dtype); }));
  }
}

KeyValues ResidentRings::pin(const RingUse& ring) {
  return steps_[static_cast<size_t>(ring.step)][static_cast<size_t>(ring.layer)];
}

Expected<PageMemory> allocate_ring_pages(const RingShape& shape, Budget& budget) {
  std::vector<size_t> bytes(static_cast<size_t>(shape.count()), page_bytes(shape));
  std::vector<bool> stay;
  for (int64_t p = 0; p < shape.count(); ++p) stay.push_back(stays(shape, p));
  return PageMemory::allocate(bytes, stay, MemoryCategory::kKvCache, budget);
}

uint64_t ring_bytes_per_block(const RingShape& shape) {
  return shape.paged() ? static_cast<uint64_t>(shape.count() - shape.resident) * page_bytes(shape) : 0;
}

// The rings on disk. What is known of a page changes while it is pinned and is read while it is not: the pager's lock
// lies between the two.
class PagedRings::Store : public PageStore {
 public:
  Store(const RingShape& shape, std::unique_ptr<DirectFile> file)
      : shape_(shape), slots_(shape.geometry.clip_latents / shape.geometry.block_latents), file_(std::move(file)) {
    uint64_t offset = 0, bytes = page_bytes(shape);
    for (int64_t p = 0; p < shape.count(); ++p) {
      pages_.push_back({offset, 0, 0, std::vector<char>(static_cast<size_t>(slots_), false)});
      if (!stays(shape, p)) offset += bytes;
    }
  }

  Expected<uint64_t> read(size_t page, std::byte* target, const std::atomic<bool>& stop) override {
    const Page& p = pages_[page];
    uint64_t moved = 0;
    auto bring = [&](size_t begin, size_t end) {
      moved += end - begin;
      return file_->read(p.offset + begin, target + begin, end - begin, stop);
    };
    LA_RETURN_IF_ERROR(each_range(target, 0, std::min(p.filled, p.next), bring));
    LA_RETURN_IF_ERROR(each_range(target, p.next + 1, p.filled, bring));
    return moved;
  }

  Expected<uint64_t> write(size_t page, const std::byte* data, const std::atomic<bool>& stop) override {
    Page& p = pages_[page];
    uint64_t moved = 0;
    auto put_away = [&](size_t begin, size_t end) {
      moved += end - begin;
      return file_->write(p.offset + begin, data + begin, end - begin, stop);
    };
    for (int64_t slot = 0; slot < slots_; ++slot) {
      if (!std::exchange(p.changed[static_cast<size_t>(slot)], false)) continue;
      LA_RETURN_IF_ERROR(each_range(const_cast<std::byte*>(data), slot, slot + 1, put_away));
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
    int64_t filled = 0, next = 0;  // slots that hold something, the one that is written next
    std::vector<char> changed;     // a slot each: not on disk yet
  };

  // visit(begin, end) of slots [first, last) in every part of a page, widened to whole sectors: what lies beside is
  // either as it is on disk, or of no use yet.
  template <typename Visit>
  Status each_range(std::byte* data, int64_t first, int64_t last, const Visit& visit) const {
    if (first >= last) return {};
    const KeyValues kv = view_page(shape_, data, {});
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

  RingShape shape_;
  int64_t slots_;
  std::unique_ptr<DirectFile> file_;
  std::vector<Page> pages_;
};

Expected<std::unique_ptr<PagedRings>> PagedRings::open(const RingShape& shape, const std::string& folder,
                                                       PageMemory memory, WorkQueue& queue) {
  std::unique_ptr<PagedRings> rings(new PagedRings(shape));
  LA_ASSIGN_OR_RETURN(
      std::unique_ptr<DirectFile> file,
      DirectFile::scratch(folder, static_cast<uint64_t>(shape.count() - shape.resident) * page_bytes(shape)));
  auto store = std::make_unique<Store>(shape, std::move(file));
  rings->store_ = store.get();
  rings->device_ = memory.device();
  rings->pager_ = std::make_unique<Pager>(std::move(store), std::move(memory), queue);
  return rings;
}

size_t PagedRings::page(const RingUse& ring) const {
  return static_cast<size_t>(ring.layer * shape_.steps + ring.step);
}

KeyValues PagedRings::pin(const RingUse& ring) { return view_page(shape_, pager_->pin(page(ring)), device_); }

void PagedRings::release(const RingUse& ring, int64_t slot, Event used) {
  store_->wrote(page(ring), slot);
  pager_->release(page(ring), {true, used});
}

void PagedRings::expect(std::span<const RingUse> uses) {
  std::vector<size_t> order;
  for (const RingUse& use : uses) order.push_back(page(use));
  pager_->expect(std::move(order));
}

}  // namespace liveavatar
