// Where the rings are: keys and values of every denoising step in every layer, in memory, or on disk until a forward of
// that step comes by the layer. The forward does not know.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/types.h"
#include "models/s2v_dit/config.h"
#include "paging/pager.h"

namespace liveavatar {

// The ring of one denoising step in one layer: noisy tokens, K after RoPE. Block b is written at slot b mod slots.
struct RingUse {
  int64_t step = 0, layer = 0;
};

class Rings {
 public:
  virtual ~Rings() = default;
  // K, V [ring tokens, D] and scales of 8-bit ones [ring tokens, heads]: there until release(). Waits for the disk if
  // it must. One at a time.
  virtual KeyValues pin(const RingUse& ring) = 0;
  // `slot` was written; slots are written in turn from 0 on. used: behind the ops that read and wrote it.
  virtual void release(const RingUse& ring, int64_t slot, Event used) = 0;
  // In which order rings are used from now on.
  virtual void expect(std::span<const RingUse> uses) = 0;
  virtual PagingCounts counts() const = 0;
  // The first failure sticks; from then on pinned rings hold anything.
  virtual Status status() const = 0;
};

// A ring for the length of a scope, in which its slot is written.
class RingPin {
 public:
  RingPin(Rings& rings, WorkQueue& queue, const RingUse& use, int64_t slot)
      : rings_(rings), queue_(queue), use_(use), slot_(slot), values_(rings.pin(use)) {}
  ~RingPin() { rings_.release(use_, slot_, queue_.record()); }
  RingPin(const RingPin&) = delete;
  RingPin& operator=(const RingPin&) = delete;
  const KeyValues& operator*() const { return values_; }

 private:
  Rings& rings_;
  WorkQueue& queue_;
  RingUse use_;
  int64_t slot_;
  KeyValues values_;
};

// What decides the memory of rings.
struct RingShape {
  DitConfig config;
  DitGeometry geometry;
  int64_t steps = 4;
  DType dtype = DType::kBF16;
  int64_t resident = -1;  // rings that stay in memory; -1: all
  int64_t count() const { return steps * config.layers; }
  bool paged() const { return resident >= 0 && resident < count(); }
  int64_t in_memory() const { return paged() ? resident : count(); }
};

// Everything in memory, on one arena.
class ResidentRings : public Rings {
 public:
  ResidentRings(const RingShape& shape, Arena& arena);
  KeyValues pin(const RingUse& ring) override;
  void release(const RingUse&, int64_t, Event) override {}
  void expect(std::span<const RingUse>) override {}
  PagingCounts counts() const override { return {}; }
  Status status() const override { return {}; }

 private:
  std::vector<std::vector<KeyValues>> steps_;  // a layer each
};

// Memory of the rings that stay and of the slots for the others: MemoryCategory::kKvCache.
Expected<PageMemory> allocate_ring_pages(const RingShape& shape, Budget& budget);
// Bytes that a block moves when its rings are full: three of four slots are read, one is written.
uint64_t ring_bytes_per_block(const RingShape& shape);

// Some on disk: in a nameless file in `folder`, gone with this object or the process. Of a ring what is about to be
// overwritten is not read, and only what was written is put away.
class PagedRings : public Rings {
 public:
  static Expected<std::unique_ptr<PagedRings>> open(const RingShape& shape, const std::string& folder,
                                                    PageMemory memory, WorkQueue& queue);
  KeyValues pin(const RingUse& ring) override;
  void release(const RingUse& ring, int64_t slot, Event used) override;
  void expect(std::span<const RingUse> uses) override;
  PagingCounts counts() const override { return pager_->counts(); }
  Status status() const override { return pager_->status(); }

 private:
  class Store;
  explicit PagedRings(const RingShape& shape) : shape_(shape) {}
  size_t page(const RingUse& ring) const;

  RingShape shape_;
  Device device_;           // of the pages
  Store* store_ = nullptr;  // the pager's
  std::unique_ptr<Pager> pager_;
};

}  // namespace liveavatar
