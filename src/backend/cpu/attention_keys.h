// Packed keys and values of attention, in blocks. A block stays in the L2 cache for many queries. Blocks depend on the
// keys alone, so a query's sums do not depend on the queries beside it.
#pragma once

#include <algorithm>
#include <span>

#include "backend/cpu/scratch.h"
#include "backend/types.h"
#include "core/rounding.h"

namespace liveavatar::cpu {

constexpr int64_t kKeyBlock = 512;

// The packed form of one head: K as panels [keys / columns] over d, V as panels [d / columns] over keys. In 8 bits a
// panel is [k / 4][columns][4], and the block also has an offset and a scale for each key (kernels.h), and a scale for
// each column of V.
struct HeadLayout {
  int64_t keys = 0, d = 0, columns = 0;
  DType dtype = DType::kF32;
  bool int8 = false;  // 8-bit; dtype is then kBF16, the type before quantisation

  int64_t blocks() const { return ceil_div(keys, kKeyBlock); }
  int64_t block_keys(int64_t block) const { return std::min(kKeyBlock, keys - block * kKeyBlock); }
  int64_t width() const { return round_up(d, columns); }
  // The number of 32-bit items of k values.
  int64_t items(int64_t k) const {
    int64_t of_item = int8 ? 4 : (dtype == DType::kBF16 ? 2 : 1);
    return ceil_div(k, of_item);
  }
  // Bytes of a key or a query.
  int64_t row_bytes() const { return int8 ? items(d) * 4 : d * static_cast<int64_t>(dtype_bytes(dtype)); }
  size_t panel_bytes(int64_t k) const { return static_cast<size_t>(items(k) * columns) * 4; }

  // Offsets in a block. Every block has the size of a full one.
  size_t offsets_at() const { return static_cast<size_t>(ceil_div(kKeyBlock, columns)) * panel_bytes(d); }
  size_t scales_at() const { return offsets_at() + kKeyBlock * sizeof(int); }
  size_t values_at() const { return int8 ? scales_at() + kKeyBlock * sizeof(float) : offsets_at(); }
  size_t value_scales_at() const {
    return values_at() + static_cast<size_t>(width() / columns) * panel_bytes(kKeyBlock);
  }
  size_t block_bytes() const { return value_scales_at() + (int8 ? static_cast<size_t>(width()) * sizeof(float) : 0); }
  size_t head_bytes() const { return static_cast<size_t>(blocks()) * block_bytes(); }
  // Scratch for packing.
  ScratchSizes scratch() const;
};

// The keys and values of one call.
class KeyPanels {
 public:
  KeyPanels(const Kernels& kernels, std::span<const KeyValues> segments, const HeadLayout& layout)
      : kernels_(kernels), segments_(segments), layout_(layout) {}
  // Packs one block of a head, one panel of keys at a time.
  void pack(int64_t head, int64_t block, std::byte* target, ThreadScratch& t) const;

 private:
  enum class Side { kKeys, kValues };
  const void** find_rows(Side side, int64_t head, int64_t first, int count, ThreadScratch& t) const;
  const void* as_packed(const Tensor& x, const Tensor& scale, int64_t element, int64_t scale_at, std::byte* copy) const;
  const float* middle(int64_t head, ThreadScratch& t) const;
  void quantise_keys(const void** keys, int count, const float* middle, int64_t first, std::byte* block,
                     ThreadScratch& t) const;
  const float* scale_values(int64_t head, int64_t block, float* scales, ThreadScratch& t) const;
  void pack_values(const void* const* rows, int count, int64_t first, int64_t block, std::byte* target) const;
  void pack_quantised_values(const void* const* rows, int count, int64_t first, int64_t block, const float* factors,
                             std::byte* target) const;

  const Kernels& kernels_;
  std::span<const KeyValues> segments_;
  const HeadLayout& layout_;
};

}  // namespace liveavatar::cpu
