// Attention in one pass over the keys with online softmax (Milakov and Gimelshein 2018; Dao et al. 2022). Both products
// use the micro-kernels.
#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/kernel_types.h"
#include "core/rounding.h"

namespace liveavatar::cpu {
namespace {

constexpr int64_t kWeightStride = kKeyBlock + 32;  // elements between rows of weights; see kScoreStride

}  // namespace

int64_t Attention::queries_bytes(const Kernels& kernels, const HeadLayout& layout) {
  bool unit = on_unit(kernels, layout);
  if (!unit && !layout.int8) return 0;  // read in place
  return tile_rows(kernels, layout) * (unit ? round_up(layout.row_bytes(), kChunkBytes) : layout.row_bytes());
}

ScratchSizes Attention::scratch(const Kernels& kernels, const HeadLayout& layout) {
  ScratchSizes s = layout.scratch();
  s.want(ScratchBuffer::kOutput, kMostTiles * tile_rows(kernels, layout) * layout.width(), sizeof(float));
  s.want(ScratchBuffer::kQueries, kMostTiles * queries_bytes(kernels, layout), 1);
  return s;
}

void Attention::run(int64_t head, int64_t first, int64_t last, const std::byte* packed, ThreadScratch& t) const {
  std::array<Rows, kMostTiles> tiles;
  int64_t count = 0;
  int64_t rows = tile_rows(kernels_, layout_);
  int64_t tile_outputs = rows * layout_.width();
  int64_t bytes = queries_bytes(kernels_, layout_);
  float* outputs = t.at<float>(ScratchBuffer::kOutput, kMostTiles * tile_outputs);
  std::byte* packed_queries = t.at<std::byte>(ScratchBuffer::kQueries, kMostTiles * bytes);
  for (int64_t row = first; row < last; row += rows, ++count) {
    Rows& r = tiles[static_cast<size_t>(count)];
    r.head = head;
    r.first = row;
    r.count = static_cast<int>(std::min(rows, last - row));
    std::fill_n(r.largest, r.count, -std::numeric_limits<float>::infinity());
    for (int i = 0; i < r.count; ++i) r.queries[i] = at(q_, row + i, head);
    pack_queries(r, packed_queries + count * bytes, t);
  }
  for (int64_t block = 0; block < layout_.blocks(); ++block) {
    for (int64_t i = 0; i < count; ++i)
      attend(tiles[static_cast<size_t>(i)], block, packed, outputs + i * tile_outputs, t);
    packed += layout_.block_bytes();
  }
  for (int64_t i = 0; i < count; ++i) finish(tiles[static_cast<size_t>(i)], outputs + i * tile_outputs);
}

void Attention::finish(const Rows& r, float* output) const {
  for (int i = 0; i < r.count; ++i, output += layout_.width()) {
    kernels_.rescale(output, 1.0f / r.total[i], layout_.d);
    kernels_.activate({output, Type::kF32}, layout_.d, Activation::kNone, at(out_, r.first + i, r.head),
                      type_of(out_.dtype));
  }
}

ScratchSizes PlainAttention::scratch(const Kernels& kernels, const HeadLayout& layout) {
  int64_t rows = tile_rows(kernels, layout);
  ScratchSizes s = Attention::scratch(kernels, layout);
  s.want(ScratchBuffer::kScores, rows * kScoreStride, sizeof(float));
  s.want(ScratchBuffer::kWeights, rows * kWeightStride, dtype_bytes(layout.dtype));
  return s;
}

int64_t PlainAttention::weight_row_bytes() const {
  return kWeightStride * static_cast<int64_t>(dtype_bytes(layout_.dtype));
}

void PlainAttention::pack_queries(Rows& r, std::byte* target, ThreadScratch&) const {
  if (!unit()) return;
  for (int i = 0; i < r.count; ++i)
    pack_chunks(r.queries[i], layout_.row_bytes(), target + i * kChunkBytes, r.count * kChunkBytes);
  r.packed_queries = target;
}

void PlainAttention::attend(Rows& r, int64_t block, const std::byte* packed, float* output, ThreadScratch& t) const {
  int64_t rows = tile_rows(kernels_, layout_);
  float* scores = t.at<float>(ScratchBuffer::kScores, rows * kScoreStride);
  std::byte* weights = t.at<std::byte>(ScratchBuffer::kWeights, rows * weight_row_bytes());
  score(r, block, packed, scores);
  weigh(r, block, scores, output, weights);
  gather(r, block, packed + layout_.values_at(), weights, output);
}

// scores = q k^T over one block of keys
void PlainAttention::score(const Rows& r, int64_t block, const std::byte* packed, float* scores) const {
  int64_t keys = layout_.block_keys(block);
  if (unit()) {
    MatrixArgs args{
        .a = &r.packed_queries, .row_bytes = kChunkBytes, .chunk_bytes = r.count * kChunkBytes, .rows = r.count};
    args.items = layout_.items(layout_.d);
    args.stride = kScoreStride;
    return multiply(kernels_.matrix, args, layout_.d, keys, packed, scores);
  }
  TileArgs args{.a = r.queries, .rows = r.count, .k = layout_.d, .stride = kScoreStride};
  multiply(kernels_.tile[q_.dtype == DType::kBF16][in_bf16()], args, layout_.d, keys, packed, scores);
}

// weights = exp(scores - largest so far). Rescales output and total to the new largest score.
void PlainAttention::weigh(Rows& r, int64_t block, float* scores, float* output, std::byte* weights) const {
  int64_t keys = layout_.block_keys(block);
  Type type = type_of(layout_.dtype);
  for (int i = 0; i < r.count; ++i, scores += kScoreStride, weights += weight_row_bytes()) {
    float before = r.largest[i];
    float sum =
        kernels_.online_softmax(scores, keys, spec_.scale, bias_of(r, i, block), before, &r.largest[i], weights, type);
    if (in_bf16() && keys % 2 != 0) reinterpret_cast<bf16*>(weights)[keys] = bf16{0};  // the pair of the last key
    float shrink = block == 0 ? 0.0f : std::exp(before - r.largest[i]);
    r.total[i] = r.total[i] * shrink + sum;
    if (block > 0 && shrink != 1.0f) kernels_.rescale(output + i * layout_.width(), shrink, layout_.d);
  }
}

// output += weights v
void PlainAttention::gather(const Rows& r, int64_t block, const std::byte* values, const std::byte* weights,
                            float* output) const {
  int64_t keys = layout_.block_keys(block);
  int64_t row_bytes = weight_row_bytes();
  if (unit()) {
    const void* a = weights;
    MatrixArgs args{.a = &a, .row_bytes = row_bytes, .chunk_bytes = kChunkBytes, .rows = r.count};
    args.items = layout_.items(keys);
    args.stride = layout_.width();
    args.accumulate = block > 0;
    return multiply(kernels_.matrix, args, keys, layout_.d, values, output);
  }
  const void* a[kRows];
  for (int i = 0; i < r.count; ++i) a[i] = weights + i * row_bytes;
  TileArgs args{.a = a, .rows = r.count, .k = in_bf16() ? round_up(keys, 2) : keys};
  args.stride = static_cast<int>(layout_.width());
  args.accumulate = block > 0;
  multiply(kernels_.tile[in_bf16()][in_bf16()], args, keys, layout_.d, values, output);
}

namespace {

// Whole tiles: many, to use the caches, but few enough that every thread has several jobs.
int64_t queries_at_once(int64_t queries, int64_t rows, int64_t heads, int threads) {
  int64_t tiles = ceil_div(queries, rows);
  return std::clamp<int64_t>(tiles * heads / (threads * kJobsPerThread), 1, Attention::kMostTiles) * rows;
}

ScratchSizes scratch_of(const Kernels& kernels, const HeadLayout& layout) {
  return layout.int8 ? Int8Attention::scratch(kernels, layout) : PlainAttention::scratch(kernels, layout);
}

// Heads that are packed at a time: enough for all threads, few enough to need little memory.
int64_t heads_at_once(int64_t heads, int threads) { return std::min<int64_t>(heads, std::max(threads, 4)); }

HeadLayout head_layout(const CpuContext& context, const Tensor& q, std::span<const KeyValues> segments,
                       const AttentionSpec& spec) {
  HeadLayout layout{.d = q.dim(1) / spec.heads, .columns = context.kernels().columns};
  bool in_bf16 = q.dtype == DType::kBF16 && layout.d % 2 == 0;
  for (const KeyValues& s : segments) {
    layout.keys += s.k.dim(0);
    in_bf16 = in_bf16 && s.k.dtype != DType::kF32 && s.v.dtype != DType::kF32;  // 8-bit values are unpacked to bf16
  }
  if (in_bf16) layout.dtype = DType::kBF16;
  layout.int8 = in_bf16 && context.int8_products() && spec.in_8bit;
  return layout;
}

// Heads [first, first + count) of one call, which are packed together.
struct HeadGroup {
  int64_t first = 0, count = 0;
  std::byte* packed = nullptr;  // head by head
};

void pack_heads(CpuContext& context, const KeyPanels& keys, const HeadLayout& layout, const HeadGroup& group) {
  int64_t blocks = layout.blocks();
  context.pool().parallel_for(group.count * blocks, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      std::byte* target = group.packed + static_cast<size_t>(i) * layout.block_bytes();
      keys.pack(group.first + i / blocks, i % blocks, target, context.scratch(thread));
    }
  });
}

void attend_heads(CpuContext& context, const Attention& attention, const HeadLayout& layout, int64_t queries,
                  const HeadGroup& group) {
  int64_t tile_rows = Attention::tile_rows(context.kernels(), layout);
  int64_t at_once = queries_at_once(queries, tile_rows, group.count, context.threads());
  int64_t parts = ceil_div(queries, at_once);
  context.pool().parallel_for(group.count * parts, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t head = i / parts;
      int64_t first = i % parts * at_once;
      const std::byte* packed = group.packed + static_cast<size_t>(head) * layout.head_bytes();
      attention.run(group.first + head, first, std::min(first + at_once, queries), packed, context.scratch(thread));
    }
  });
}

}  // namespace

Status reserve_attention(CpuContext& context, const AttentionSize& size) {
  const Kernels& kernels = context.kernels();
  HeadLayout layout{.keys = size.keys, .d = size.width / size.heads, .columns = kernels.columns, .dtype = size.dtype};
  if (layout.d % 2 != 0) layout.dtype = DType::kF32;
  HeadLayout int8 = layout;
  int8.int8 = context.int8_products() && layout.dtype == DType::kBF16;
  size_t heads = static_cast<size_t>(heads_at_once(size.heads, context.threads()));
  LA_RETURN_IF_ERROR(context.reserve_shared(heads * std::max(layout.head_bytes(), int8.head_bytes())));
  LA_RETURN_IF_ERROR(context.reserve(scratch_of(kernels, layout)));
  return context.reserve(scratch_of(kernels, int8));
}

void run_attention(CpuContext& context, const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                   const Tensor& out) {
  const Kernels& kernels = context.kernels();
  const HeadLayout layout = head_layout(context, q, segments, spec);
  const KeyPanels keys(kernels, segments, layout);
  const PlainAttention plain(kernels, layout, q, spec, out);
  const Int8Attention int8(kernels, layout, q, spec, out);
  const Attention& attention = layout.int8 ? static_cast<const Attention&>(int8) : plain;
  int64_t at_once = heads_at_once(spec.heads, context.threads());
  context.begin(scratch_of(kernels, layout));
  HeadGroup group;
  group.packed = context.shared(static_cast<size_t>(at_once) * layout.head_bytes()).data();
  for (; group.first < spec.heads; group.first += at_once) {
    group.count = std::min(at_once, spec.heads - group.first);
    pack_heads(context, keys, layout, group);
    attend_heads(context, attention, layout, q.dim(0), group);
  }
}

}  // namespace liveavatar::cpu
