// Keys and values as attention multiplies with them: packed in blocks, each of which stays in the L2 cache while many
// queries pass. Blocks are cut by the keys alone, so a query's sums never depend on the queries beside it.
#pragma once

#include <algorithm>
#include <span>

#include "backend/cpu/pack.h"
#include "backend/cpu/scratch.h"
#include "ops/types.h"

namespace liveavatar::cpu {

constexpr int64_t kKeyBlock = 512;

// What is packed of one head: K as panels [keys / columns] over d, V as panels [d / columns] over keys. In 8 bits K is
// codes [d / 4][columns][4], and what kernels.h calls a key's offset and scale stands behind the panels.
struct HeadLayout {
  int64_t keys = 0, d = 0, columns = 0;
  DType dtype = DType::kF32;
  bool codes = false;  // K in 8 bits; dtype is kBF16 then

  int64_t blocks() const { return (keys + kKeyBlock - 1) / kKeyBlock; }
  int64_t block_keys(int64_t block) const { return std::min(kKeyBlock, keys - block * kKeyBlock); }
  // Bytes of a key, or of a query: of d values, or of their codes.
  int64_t row_bytes() const { return codes ? (d + 3) / 4 * 4 : d * static_cast<int64_t>(dtype_bytes(dtype)); }
  // A key's items of 32 bits in a panel.
  int64_t k_items() const { return dtype == DType::kF32 ? d : (row_bytes() + 3) / 4; }
  size_t k_panel_bytes() const { return static_cast<size_t>(k_items() * columns) * 4; }
  size_t k_offsets_at() const { return static_cast<size_t>((kKeyBlock + columns - 1) / columns) * k_panel_bytes(); }
  size_t k_scales_at() const { return k_offsets_at() + kKeyBlock * sizeof(int); }
  PanelShape v_shape(int64_t block) const { return {static_cast<int>(columns), dtype, 1, block_keys(block), d, 1}; }
  // Every block gets the room of a full one.
  size_t k_room() const { return codes ? k_scales_at() + kKeyBlock * sizeof(float) : k_offsets_at(); }
  size_t v_room() const { return PanelShape{static_cast<int>(columns), dtype, 1, kKeyBlock, d, 1}.bytes(); }
  size_t block_bytes() const { return k_room() + v_room(); }
  size_t head_bytes() const { return static_cast<size_t>(blocks()) * block_bytes(); }
  // What packing works in.
  ScratchSizes scratch() const;
};

// The keys and values of one call.
class KeyPanels {
 public:
  KeyPanels(const Kernels& kernels, std::span<const KeyValues> segments, const HeadLayout& layout)
      : kernels_(kernels), segments_(segments), layout_(layout) {}
  // One block of a head, a panel's keys at a time.
  void pack(int64_t head, int64_t block, std::byte* target, ThreadScratch& t) const;

 private:
  void find_rows(int64_t head, int64_t first, int count, ThreadScratch& t) const;
  const void* as_packed(const Tensor& x, const Tensor& scale, int64_t element, int64_t scale_at, std::byte* copy) const;
  const float* middle(int64_t head, ThreadScratch& t) const;
  void quantise(const void** keys, int count, const float* middle, int64_t first, std::byte* block,
                ThreadScratch& t) const;
  void pack_values(const void* const* rows, int count, int64_t first, int64_t block, std::byte* target) const;

  const Kernels& kernels_;
  std::span<const KeyValues> segments_;
  const HeadLayout& layout_;
};

}  // namespace liveavatar::cpu
