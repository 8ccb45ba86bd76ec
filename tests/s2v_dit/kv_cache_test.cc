// KvCaches on disk: what other blocks wrote is there, whatever the parts' sizes, and full disks are named.
#include "models/s2v_dit/kv_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "core/quantise.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

class KvCachesTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    // Slots of odd sizes: nothing but pages begins where a sector does.
    shape_.config.dim = 42;
    shape_.config.heads = 3;
    shape_.config.layers = 3;
    shape_.geometry = {8, 12, 9, 3};
    shape_.steps = 2;
    shape_.dtype = GetParam();
  }

  // The bytes of every part's slot are functions of cache, block and position.
  template <typename Visit>
  void each_part(const KeyValues& kv, int64_t slot, const Visit& visit) const {
    int64_t rows = shape_.geometry.block_tokens();
    int part = 0;
    for (const Tensor& t : {kv.k, kv.v, kv.k_scale, kv.v_scale}) {
      if (!t.empty()) visit(t.slice(slot * rows, rows), ++part);
    }
  }
  static uint8_t value(const KvCacheKey& key, int64_t block, int part, size_t i) {
    return uint8_t(size_t(key.step * 91 + key.layer * 37 + block * 11 + part * 5) + i * 7);
  }
  void write(const KeyValues& kv, const KvCacheKey& key, int64_t block) const {
    each_part(kv, block % 3, [&](const Tensor& t, int part) {
      for (size_t i = 0; i < t.bytes(); ++i) static_cast<uint8_t*>(t.address())[i] = value(key, block, part, i);
    });
  }
  bool holds(const KeyValues& kv, const KvCacheKey& key, int64_t block) const {
    bool good = true;
    each_part(kv, block % 3, [&](const Tensor& t, int part) {
      for (size_t i = 0; i < t.bytes(); ++i)
        good &= static_cast<uint8_t*>(t.address())[i] == value(key, block, part, i);
    });
    return good;
  }

  TempDir dir_;
  KvCacheShape shape_;
  Budget budget_;
};

INSTANTIATE_TEST_SUITE_P(Types, KvCachesTest, ::testing::Values(DType::kBF16, DType::kI8),
                         [](const auto& type) { return std::string(dtype_name(type.param)); });

TEST_P(KvCachesTest, EveryBlockReadsTheBlocksBeforeIt) {
  for (int64_t resident : {0, 1, 3, 6}) {
    shape_.resident = resident;
    std::unique_ptr<KvCaches> caches;
    Arena arena;
    if (shape_.paged()) {
      caches = *PagedKvCaches::open(shape_, dir_.string(), *allocate_kv_cache_pages(shape_, budget_), host_queue());
    } else {
      Arena measure;
      ResidentKvCaches(shape_, measure);
      arena = *Arena::allocate(budget_, MemoryCategory::kKvCache, measure.used_bytes());
      caches = std::make_unique<ResidentKvCaches>(shape_, arena);
    }
    std::vector<KvCacheKey> uses;
    for (int64_t i = 0; i < 6; ++i) uses.push_back({i % 2, i / 2});
    caches->expect(uses);
    for (int64_t block = 0; block < 11; ++block) {
      for (const KvCacheKey& use : uses) {
        KvCacheGuard cache(*caches, host_queue(), use, block % 3);
        for (int64_t before = std::max<int64_t>(0, block - 2); before < block; ++before)
          EXPECT_TRUE(holds(*cache, use, before)) << block << " sees " << before << ", " << resident << " resident";
        write(*cache, use, block);
      }
    }
    EXPECT_TRUE(caches->status().ok()) << caches->status().message();
    EXPECT_EQ(caches->counts().bytes_read == 0, !shape_.paged());
  }
  EXPECT_TRUE(fs::is_empty(dir_.path()));
}

TEST_P(KvCachesTest, BlocksBeginAnewAtAnyPlace) {
  shape_.resident = 1;
  auto caches = *PagedKvCaches::open(shape_, dir_.string(), *allocate_kv_cache_pages(shape_, budget_), host_queue());
  std::vector<KvCacheKey> uses;
  for (int64_t i = 0; i < 6; ++i) uses.push_back({i % 2, i / 2});
  caches->expect(uses);
  int64_t first = 0;  // so that no two videos have the same bytes
  for (int64_t blocks : {1, 2, 4, 3, 5, 4}) {
    for (int64_t block = 0; block < blocks; ++block) {
      for (const KvCacheKey& use : uses) {
        KvCacheGuard cache(*caches, host_queue(), use, block % 3);
        for (int64_t before = std::max<int64_t>(0, block - 2); before < block; ++before)
          EXPECT_TRUE(holds(*cache, use, first + before)) << block << " sees " << before << " of " << blocks;
        write(*cache, use, first + block);
      }
    }
    first += 6;
  }
  EXPECT_TRUE(caches->status().ok()) << caches->status().message();
}

TEST_P(KvCachesTest, ReportsADiskWithoutRoom) {
  shape_.resident = 0;
  auto caches = PagedKvCaches::open(shape_, "/nowhere", *allocate_kv_cache_pages(shape_, budget_), host_queue());
  ASSERT_FALSE(caches.ok());
  EXPECT_NE(caches.status().message().find("/nowhere"), std::string::npos);
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

}  // namespace
}  // namespace liveavatar
