// Attention in f32 arithmetic over several segments of keys and values as if they were one, with online softmax: any
// head up to kMaxHead, any types, an optional bias. The truth of all attention on the device. A query meets the keys in
// one order, so that its bits do not depend on the queries beside it.
#pragma once

#include "backend/cuda/kernels/eight_bit_float.cuh"
#include "backend/cuda/kernels/epilogue.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

// A block computes kBlockQueries queries of one head, a warp kWarpQueries of them. Keys, and then their values, come
// into one tile of shared memory: one key for each lane.
constexpr int kWarpQueries = 4, kAttentionWarps = 4, kAttentionThreads = 32 * kAttentionWarps;
constexpr int kBlockQueries = kWarpQueries * kAttentionWarps, kTileKeys = 32;
constexpr int kMaxHead = 512;
using Four = Vec<float, 4>;

// Shared memory, in floats: a tile of keys or values [kTileKeys, tile_stride], queries [kBlockQueries, padded_head],
// and each warp's scores [kTileKeys, kWarpQueries].
__host__ __device__ constexpr int padded_head(int head) { return (head + 3) / 4 * 4; }
__host__ __device__ constexpr int tile_stride(int head) { return padded_head(head) + 4; }  // lanes' rows: other banks
constexpr size_t attention_shared_bytes(int head) {
  return sizeof(float) * size_t(kTileKeys * tile_stride(head) + kBlockQueries * padded_head(head) +
                                kAttentionWarps * kTileKeys * kWarpQueries);
}
static_assert(attention_shared_bytes(kMaxHead) <= 99 * 1024);

LA_DEVICE float* key_tile() { return dynamic_shared<float>(); }
LA_DEVICE float* query_tile(int head) { return key_tile() + kTileKeys * tile_stride(head); }
LA_DEVICE Four* warp_scores(int head) {  // [kTileKeys]: of each of the warp's queries
  static_assert(kWarpQueries == 4);
  return reinterpret_cast<Four*>(query_tile(head) + kBlockQueries * padded_head(head)) + threadIdx.x / 32 * kTileKeys;
}

// Rows [first, first + kRows) of x [rows, heads * head], the block's head alone, with their scales [rows, heads] if
// there are any. What lies outside becomes zeros, also the padding of a head. kWide: 4 columns are read at once,
// else 1.
template <typename T, int kWide, int kRows>
LA_DEVICE void fill_rows_of(float* tile, int stride, const void* x, const float* scale, const AttentionCall& a,
                            int64_t first, int64_t rows) {
  const int head = int(a.head), chunks = padded_head(head) / kWide;
  for (int at = int(threadIdx.x); at < kRows * chunks; at += kAttentionThreads) {
    const int r = at / chunks, column = at % chunks * kWide;
    const int64_t row_and_head = (first + r) * a.heads + blockIdx.y;
    Vec<T, kWide> values = {};
    float factor = 1;
    if (first + r < rows && column < head) {
      values = *reinterpret_cast<const Vec<T, kWide>*>(static_cast<const T*>(x) + row_and_head * head + column);
      if (scale != nullptr) factor = scale[row_and_head];
    }
#pragma unroll
    for (int e = 0; e < kWide; ++e) tile[r * stride + column + e] = to_float(values.at[e]) * factor;
  }
}
template <int kWide, int kRows>
LA_DEVICE void fill_rows(float* tile, int stride, const Input& x, const float* scale, const AttentionCall& a,
                         int64_t first, int64_t rows) {
  switch (x.type) {
    case ElementType::kF32:
      return fill_rows_of<float, kWide, kRows>(tile, stride, x.data, scale, a, first, rows);
    case ElementType::kBF16:
      return fill_rows_of<bf16, kWide, kRows>(tile, stride, x.data, scale, a, first, rows);
    case ElementType::kI8:
      return fill_rows_of<int8_t, kWide, kRows>(tile, stride, x.data, scale, a, first, rows);
    case ElementType::kE4M3:
      return fill_rows_of<e4m3, kWide, kRows>(tile, stride, x.data, scale, a, first, rows);
    case ElementType::kQ4:
      break;  // only weights
  }
}

// The keys of a tile: of one segment, from its key `first` on; the segments before it have `before` keys. An empty
// segment has one tile, in which no key counts.
struct TileOfKeys {
  int segment;
  int64_t first, before;
};
LA_DEVICE TileOfKeys next_tile(TileOfKeys t, const AttentionCall& a) {
  const int64_t length = a.segments[t.segment].length;
  if (t.first + kTileKeys >= length) return {t.segment + 1, 0, t.before + length};
  return {t.segment, t.first + kTileKeys, t.before};
}

// The scores of the lane's key, for each of the warp's queries.
LA_DEVICE Four multiply_key(int head, int warp, int lane) {
  const float* key = key_tile() + lane * tile_stride(head);
  const float* query = query_tile(head) + warp * kWarpQueries * padded_head(head);
  Four sums[kWarpQueries] = {};  // of every fourth column
  for (int d = 0; d < padded_head(head); d += 4) {
    const Four k = *reinterpret_cast<const Four*>(key + d);
#pragma unroll
    for (int i = 0; i < kWarpQueries; ++i) {
      const Four q = *reinterpret_cast<const Four*>(query + i * padded_head(head) + d);
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i].at[e] = multiply_add(q.at[e], k.at[e], sums[i].at[e]);
    }
  }
  Four scores;
#pragma unroll
  for (int i = 0; i < kWarpQueries; ++i) {
    scores.at[i] = (sums[i].at[0] + sums[i].at[1]) + (sums[i].at[2] + sums[i].at[3]);
  }
  return scores;
}

// Scale, bias, and that keys behind the segment's last do not count. Scores become exponents of 2.
LA_DEVICE void scale_scores(Four& scores, const AttentionCall& a, TileOfKeys tile, int64_t keys, int warp, int lane) {
  constexpr float kLog2E = 1.4426950408889634f;
  const int64_t first_query = int64_t(blockIdx.x) * kBlockQueries + warp * kWarpQueries;
  const bool exists = tile.first + lane < a.segments[tile.segment].length;
#pragma unroll
  for (int i = 0; i < kWarpQueries; ++i) {
    float bias = 0;
    if (a.bias != nullptr && exists && first_query + i < a.queries) {
      bias = a.bias[(blockIdx.y * a.queries + first_query + i) * keys + tile.before + tile.first + lane];
    }
    scores.at[i] = exists ? (scores.at[i] * a.scale + bias) * kLog2E : -INFINITY;
  }
}

// Of a warp's queries, the same in every lane: the largest score so far, and the sum of exponentials relative to it.
// The first is finite, so that a tile without keys, or with a bias of -INFINITY alone, gives no NaN.
struct WarpSoftmax {
  Four largest = {-3e38f, -3e38f, -3e38f, -3e38f}, sum = {};
};

// Turns the warp's scores in shared memory into exponentials. Returns what earlier results are to be multiplied by.
LA_DEVICE Four update(WarpSoftmax& softmax, Four* scores, int lane) {
  Four largest = softmax.largest, factor, p = scores[lane];
#pragma unroll 8
  for (int key = 0; key < kTileKeys; ++key) {
#pragma unroll
    for (int i = 0; i < kWarpQueries; ++i) largest.at[i] = fmaxf(largest.at[i], scores[key].at[i]);
  }
#pragma unroll
  for (int i = 0; i < kWarpQueries; ++i) {
    factor.at[i] = exp2_fast(softmax.largest.at[i] - largest.at[i]);
    p.at[i] = exp2_fast(p.at[i] - largest.at[i]);
    softmax.sum.at[i] *= factor.at[i];
  }
  softmax.largest = largest;
  sync_warp();  // all lanes have read all scores
  scores[lane] = p;
  return factor;
}

// A lane's part of out, for each of the warp's queries: 4 columns of every 128.
template <int kParts>
using AttentionAcc = Four[kWarpQueries][kParts];

// acc = factor * acc + p v; also sums up p.
template <int kParts>
LA_DEVICE void multiply_values(AttentionAcc<kParts>& acc, WarpSoftmax& softmax, const Four& factor, const Four* p,
                               int head, int lane) {
#pragma unroll
  for (int i = 0; i < kWarpQueries; ++i) {
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[i][j].at[e] *= factor.at[i];
    }
  }
#pragma unroll 4
  for (int key = 0; key < kTileKeys; ++key) {
    const Four weight = p[key];
#pragma unroll
    for (int i = 0; i < kWarpQueries; ++i) softmax.sum.at[i] += weight.at[i];
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const int column = j * 128 + lane * 4;
      if (column >= head) continue;
      const Four v = *reinterpret_cast<const Four*>(key_tile() + key * tile_stride(head) + column);
#pragma unroll
      for (int i = 0; i < kWarpQueries; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[i][j].at[e] = multiply_add(weight.at[i], v.at[e], acc[i][j].at[e]);
      }
    }
  }
}

template <int kParts>
LA_DEVICE void store_attention(const AttentionCall& a, const AttentionAcc<kParts>& acc, const WarpSoftmax& softmax,
                               int warp, int lane) {
  const int64_t first_query = int64_t(blockIdx.x) * kBlockQueries + warp * kWarpQueries;
#pragma unroll
  for (int i = 0; i < kWarpQueries; ++i) {
    if (first_query + i >= a.queries) continue;
    const float inverse = 1.0f / softmax.sum.at[i];
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = j * 128 + lane * 4 + e;
        if (column >= a.head) continue;
        store(a.out, ((first_query + i) * a.heads + blockIdx.y) * a.head + column, acc[i][j].at[e] * inverse);
      }
    }
  }
}

// keys: of all segments. kParts: 128 columns of a head each.
template <int kParts, int kWide>
__global__ void __launch_bounds__(kAttentionThreads, 2) attention_f32(LA_PARAMETER AttentionCall a, int64_t keys) {
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32), head = int(a.head);
  Four* scores = warp_scores(head);
  fill_rows<kWide, kBlockQueries>(query_tile(head), padded_head(head), a.q, nullptr, a,
                                  int64_t(blockIdx.x) * kBlockQueries, a.queries);
  AttentionAcc<kParts> acc = {};
  WarpSoftmax softmax;
  for (TileOfKeys t = {0, 0, 0}; t.segment < a.segment_count; t = next_tile(t, a)) {
    const AttentionCall::Segment& s = a.segments[t.segment];
    fill_rows<kWide, kTileKeys>(key_tile(), tile_stride(head), s.k, s.k_scale, a, t.first, s.length);
    sync_threads();  // keys are there
    Four of_key = multiply_key(head, warp, lane);
    scale_scores(of_key, a, t, keys, warp, lane);
    scores[lane] = of_key;
    sync_threads();  // scores are there, and nobody reads keys any more
    fill_rows<kWide, kTileKeys>(key_tile(), tile_stride(head), s.v, s.v_scale, a, t.first, s.length);
    const Four factor = update(softmax, scores, lane);
    sync_threads();  // values and exponentials are there
    multiply_values<kParts>(acc, softmax, factor, scores, head, lane);
    sync_threads();  // nobody reads values any more
  }
  store_attention<kParts>(a, acc, softmax, warp, lane);
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
