// Attention in one pass over the keys with online softmax (Milakov and Gimelshein 2018; Dao et al. 2022): both products run on
// the matrix tiles. Key blocks are cut by the keys alone, so a query's sums never depend on the queries beside it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/cpu_backend.h"

namespace liveavatar::cpu {
namespace {

constexpr int64_t kKeyBlock = 512;

// Keys and values of one head, packed in blocks: K as panels [keys / columns] over d, V as panels [d / columns] over keys.
struct HeadLayout {
  int64_t keys = 0, d = 0, columns = 0;
  DType dtype = DType::kF32;

  int64_t blocks() const { return (keys + kKeyBlock - 1) / kKeyBlock; }
  int64_t block_keys(int64_t block) const { return std::min(kKeyBlock, keys - block * kKeyBlock); }
  PanelShape k_shape(int64_t block) const { return {static_cast<int>(columns), dtype, 1, d, block_keys(block), 1}; }
  PanelShape v_shape(int64_t block) const { return {static_cast<int>(columns), dtype, 1, block_keys(block), d, 1}; }
  // Every block gets the room of a full one.
  size_t k_room() const { return PanelShape{static_cast<int>(columns), dtype, 1, d, kKeyBlock, 1}.bytes(); }
  size_t v_room() const { return PanelShape{static_cast<int>(columns), dtype, 1, kKeyBlock, d, 1}.bytes(); }
  size_t head_bytes() const { return static_cast<size_t>(blocks()) * (k_room() + v_room()); }
};

// Element (row, column) of a panel set as pack.h lays it out.
template <typename T>
T* panel_at(std::byte* base, const PanelShape& s, int64_t n, int64_t k) {
  std::byte* panel = base + static_cast<size_t>(n / s.columns) * s.panel_bytes();
  int64_t column = n % s.columns;
  int64_t index = s.dtype == DType::kF32 ? k * s.columns + column : (k / 2 * s.columns + column) * 2 + k % 2;
  return reinterpret_cast<T*>(panel) + index;
}

template <typename T>
T load_as(const Tensor& t, int64_t i) {
  float f = t.dtype == DType::kF32 ? static_cast<const float*>(t.data)[i] : to_f32(static_cast<const bf16*>(t.data)[i]);
  if constexpr (sizeof(T) == 4) {
    return f;
  } else {
    return to_bf16(f);
  }
}

template <typename T>
void pack_block(const HeadLayout& layout, std::span<const KeyValues> segments, int64_t head, int64_t block, std::byte* target) {
  PanelShape ks = layout.k_shape(block), vs = layout.v_shape(block);
  std::byte* values = target + layout.k_room();
  std::memset(target, 0, layout.k_room() + layout.v_room());
  int64_t first = block * kKeyBlock, before = 0;
  for (const KeyValues& s : segments) {
    int64_t width = s.k.dim(1), begin = std::max(first, before), end = std::min(first + layout.block_keys(block), before + s.k.dim(0));
    for (int64_t key = begin; key < end; ++key) {
      int64_t at = (key - before) * width + head * layout.d;
      for (int64_t c = 0; c < layout.d; ++c) {
        *panel_at<T>(target, ks, key - first, c) = load_as<T>(s.k, at + c);
        *panel_at<T>(values, vs, c, key - first) = load_as<T>(s.v, at + c);
      }
    }
    before += s.k.dim(0);
  }
}

}  // namespace

void CpuBackend::attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec, const Tensor& out) {
  HeadLayout layout;
  layout.d = q.dim(1) / spec.heads;
  layout.columns = kernels_.columns;
  bool all_bf16 = q.dtype == DType::kBF16;
  for (const KeyValues& s : segments) {
    layout.keys += s.k.dim(0);
    all_bf16 = all_bf16 && s.k.dtype == DType::kBF16;
  }
  bool half = all_bf16 && layout.d % 2 == 0;
  layout.dtype = half ? DType::kBF16 : DType::kF32;
  Type p_type = half ? Type::kBF16 : Type::kF32;
  size_t p_item = half ? 2 : 4;
  auto tile = kernels_.tile[q.dtype == DType::kBF16][half], second = kernels_.tile[half][half];

  // Queries [first, first + rows) of `head` against the packed keys: scores, online softmax, weighted values.
  auto run_queries = [&](int64_t head, int64_t first, int rows, const std::byte* packed, ThreadScratch& t) {
    int64_t width = (layout.d + layout.columns - 1) / layout.columns * layout.columns;
    t.scores.resize(std::max<size_t>(t.scores.size(), kRows * kKeyBlock));
    t.output.resize(std::max<size_t>(t.output.size(), static_cast<size_t>(kRows * width)));
    t.weights.resize(std::max<size_t>(t.weights.size(), kRows * kKeyBlock * 4));
    std::fill_n(t.output.begin(), kRows * width, 0.0f);
    const void* queries[kRows];
    const void* weights[kRows];
    float largest[kRows], total[kRows] = {}, factor[kRows];
    for (int r = 0; r < rows; ++r) {
      queries[r] = static_cast<const char*>(q.data) + static_cast<size_t>((first + r) * q.dim(1) + head * layout.d) * dtype_bytes(q.dtype);
      weights[r] = t.weights.data() + static_cast<size_t>(r * kKeyBlock) * p_item;
      largest[r] = -std::numeric_limits<float>::infinity();
    }
    for (int64_t block = 0; block < layout.blocks(); ++block, packed += layout.k_room() + layout.v_room()) {
      int64_t keys = layout.block_keys(block);
      PanelShape ks = layout.k_shape(block), vs = layout.v_shape(block);
      for (int64_t panel = 0; panel < ks.panels(); ++panel) {
        tile({queries, rows, 1, layout.d, packed + static_cast<size_t>(panel) * ks.panel_bytes(), t.sums});
        int64_t count = std::min<int64_t>(layout.columns, keys - panel * layout.columns);
        for (int r = 0; r < rows; ++r) {
          std::memcpy(&t.scores[static_cast<size_t>(r * kKeyBlock + panel * layout.columns)], t.sums + r * layout.columns, static_cast<size_t>(count) * 4);
        }
      }
      for (int r = 0; r < rows; ++r) {
        const float* bias = spec.bias.empty() ? nullptr : spec.bias.f32() + (head * q.dim(0) + first + r) * layout.keys + block * kKeyBlock;
        float before = largest[r];
        void* p = const_cast<void*>(weights[r]);
        float sum = kernels_.online_softmax(&t.scores[static_cast<size_t>(r * kKeyBlock)], keys, spec.scale, bias, before, &largest[r], p, p_type);
        if (half && keys % 2 != 0) static_cast<bf16*>(p)[keys] = bf16{0};  // the pair of the last key
        factor[r] = block == 0 ? 0.0f : std::exp(before - largest[r]);
        total[r] = total[r] * factor[r] + sum;
      }
      const std::byte* values = packed + layout.k_room();
      for (int64_t panel = 0; panel < vs.panels(); ++panel) {
        second({weights, rows, 1, half ? (keys + 1) / 2 * 2 : keys, values + static_cast<size_t>(panel) * vs.panel_bytes(), t.sums});
        for (int r = 0; r < rows; ++r) {
          kernels_.rescale_add(&t.output[static_cast<size_t>(r * width + panel * layout.columns)], factor[r], t.sums + r * layout.columns, layout.columns);
        }
      }
    }
    for (int r = 0; r < rows; ++r) {
      float inverse = 1.0f / total[r];
      float* row = &t.output[static_cast<size_t>(r * width)];
      for (int64_t c = 0; c < layout.d; ++c) row[c] *= inverse;
      Row source{row, Type::kF32};
      void* target = static_cast<char*>(out.data) + static_cast<size_t>((first + r) * q.dim(1) + head * layout.d) * dtype_bytes(out.dtype);
      kernels_.activate(source, layout.d, Act::kNone, target, type_of(out.dtype));
    }
  };

  // Some heads at a time: enough to keep every thread busy, few enough to stay small.
  int64_t at_once = std::min<int64_t>(spec.heads, std::max<int64_t>(pool_.threads(), 4));
  packed_keys_.resize(std::max(packed_keys_.size(), static_cast<size_t>(at_once) * layout.head_bytes()));
  int64_t tiles = (q.dim(0) + kRows - 1) / kRows, block_bytes = static_cast<int64_t>(layout.k_room() + layout.v_room());
  for (int64_t head = 0; head < spec.heads; head += at_once) {
    int64_t count = std::min(at_once, spec.heads - head);
    pool_.parallel_for(count * layout.blocks(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        std::byte* target = packed_keys_.data() + i * block_bytes;
        (half ? pack_block<bf16> : pack_block<float>)(layout, segments, head + i / layout.blocks(), i % layout.blocks(), target);
      }
    });
    pool_.parallel_for(count * tiles, 4, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t first = i % tiles * kRows;
        run_queries(head + i / tiles, first, static_cast<int>(std::min<int64_t>(kRows, q.dim(0) - first)),
                    packed_keys_.data() + static_cast<size_t>(i / tiles) * layout.head_bytes(), scratch_[static_cast<size_t>(thread)]);
      }
    });
  }
}

}  // namespace liveavatar::cpu
