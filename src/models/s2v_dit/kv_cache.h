// Rolling-window KV caches of the self-attention, one for each denoising step and layer. They are on the device, or in
// host memory or on disk until a forward of that step runs that layer. The forward uses both in the same way.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/types.h"
#include "models/s2v_dit/config.h"
#include "paging/pager.h"

namespace liveavatar {

// The KV cache of one denoising step and layer: noisy tokens, K after RoPE. Block b is written to slot b mod slots.
struct KvCacheKey {
  int64_t step = 0, layer = 0;
};

class KvCaches {
 public:
  virtual ~KvCaches() = default;
  // K, V [kv_cache_tokens, D], with scales [kv_cache_tokens, heads] if they are 8-bit. Valid until release(). May wait
  // for the disk. Only one cache is acquired at a time.
  virtual KeyValues acquire(const KvCacheKey& key) = 0;
  // `slot` was written; slots are written in order from 0 on, and 0 out of its turn begins anew: the others are free.
  // used: an event after the ops that used the cache.
  virtual void release(const KvCacheKey& key, int64_t slot, Event used) = 0;
  // Instead: nothing was written, or all values were given back to slots [0, filled), of which `next` is written next.
  virtual void release_unchanged(const KvCacheKey& key, Event used) = 0;
  struct Filled {
    int64_t filled = 0, next = 0;
  };
  virtual void release_filled(const KvCacheKey& key, const Filled& slots, Event used) = 0;
  // The order in which the caches are used from now on, again and again.
  virtual void expect(std::span<const KvCacheKey> uses) = 0;
  virtual PagingCounts counts() const = 0;
  // The first failure. After it, acquired caches have undefined content.
  virtual Status status() const = 0;
};

// Acquires a cache for a scope that writes `slot`.
class KvCacheGuard {
 public:
  KvCacheGuard(KvCaches& caches, WorkQueue& queue, const KvCacheKey& key, int64_t slot)
      : caches_(caches), queue_(queue), key_(key), slot_(slot), values_(caches.acquire(key)) {}
  ~KvCacheGuard() { caches_.release(key_, slot_, queue_.record()); }
  KvCacheGuard(const KvCacheGuard&) = delete;
  KvCacheGuard& operator=(const KvCacheGuard&) = delete;
  const KeyValues& operator*() const { return values_; }

 private:
  KvCaches& caches_;
  WorkQueue& queue_;
  KvCacheKey key_;
  int64_t slot_;
  KeyValues values_;
};

// All that decides the size of the caches.
struct KvCacheShape {
  DitConfig config;
  DitGeometry geometry;
  int64_t steps = 4;
  DType dtype = DType::kBF16;
  int64_t resident = -1;  // caches that stay on the device; -1: all
  int64_t host = 0;       // of the others, in host memory beside it
  int64_t count() const { return steps * config.layers; }
  bool paged() const { return resident >= 0 && resident < count(); }
  int64_t in_memory() const { return paged() ? resident : count(); }
  int64_t on_disk() const { return paged() ? count() - resident - host : 0; }
};

// All caches in memory, in one arena.
class ResidentKvCaches : public KvCaches {
 public:
  ResidentKvCaches(const KvCacheShape& shape, Arena& arena);
  KeyValues acquire(const KvCacheKey& key) override;
  void release(const KvCacheKey&, int64_t, Event) override {}
  void release_unchanged(const KvCacheKey&, Event) override {}
  void release_filled(const KvCacheKey&, const Filled&, Event) override {}
  void expect(std::span<const KvCacheKey>) override {}
  PagingCounts counts() const override { return {}; }
  Status status() const override { return {}; }

 private:
  std::vector<std::vector<KeyValues>> steps_;  // [step][layer]
};

// Memory of the resident caches, and of the slots for the others: MemoryCategory::kKvCache.
Expected<PageMemory> allocate_kv_cache_pages(const KvCacheShape& shape, Budget& budget);
// Bytes of `caches` caches that each block moves when they are full: three of four slots in, one out.
uint64_t kv_cache_bytes_per_block(const KvCacheShape& shape, int64_t caches);

// Some caches are in host memory, or on disk, in an unnamed file in `folder` that ends with this object or the process.
// The slot that will be overwritten is not read, and only changed slots are written back.
class PagedKvCaches : public KvCaches {
 public:
  static Expected<std::unique_ptr<PagedKvCaches>> open(const KvCacheShape& shape, const std::string& folder,
                                                       PageMemory memory, WorkQueue& queue);
  KeyValues acquire(const KvCacheKey& key) override;
  void release(const KvCacheKey& key, int64_t slot, Event used) override;
  void release_unchanged(const KvCacheKey& key, Event used) override;
  void release_filled(const KvCacheKey& key, const Filled& slots, Event used) override;
  void expect(std::span<const KvCacheKey> uses) override;
  PagingCounts counts() const override { return pager_->counts(); }
  Status status() const override { return pager_->status(); }

 private:
  class Store;
  explicit PagedKvCaches(const KvCacheShape& shape) : shape_(shape) {}
  size_t page_of(const KvCacheKey& key) const;

  KvCacheShape shape_;
  Device device_;           // of the pages
  Store* store_ = nullptr;  // the pager's
  std::unique_ptr<Pager> pager_;
};

}  // namespace liveavatar
