// Attention over several segments of keys and values as if they were one, with online softmax. A head may have any
// width that is a multiple of 8 up to kHead; the tiles pad it with zeros. Keys and values of 8 bits are multiplied as
// they are, exactly in bf16: a key's scale multiplies its scores, a value's scale its exponentials.
#pragma once

#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/tile.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

struct Segment {
  Input k, v;                      // [length, heads * head], bf16, kI8 or kE4M3
  const float *k_scale, *v_scale;  // [length, heads] for 8 bits, else null
  int length;                      // may be 0
};
struct AttentionArgs {
  const bf16* q;  // [queries, heads * head]
  bf16* out;      // as q
  Segment segments[kMaxSegments];
  int segment_count, queries, heads, head;
  float scale;  // times log2 e
};

// A block computes kQueries queries of one head, a warp of it 16. kKeys keys are multiplied while the next are copied.
// kEightBit: some segments have keys or values in 8 bits.
template <int kHead_, bool kEightBit_>
struct AttentionShape {
  static constexpr int kHead = kHead_;
  static constexpr bool kEightBit = kEightBit_;
  static constexpr int kQueries = 64, kKeys = 64, kThreads = 128;
  static constexpr int kBlocks = kHead == 64 ? 3 : 2;  // at once on a multiprocessor: for more there are no registers
  static constexpr int kKeyTile = kKeys * kHead;  // elements
  static constexpr size_t kTileBytes = size_t(kQueries * kHead + 4 * kKeyTile) * sizeof(bf16);
  static constexpr size_t kSharedBytes = kTileBytes + (kEightBit ? 4 * kKeys * sizeof(float) : 0);
  // Fragments of multiply_bf16, each [16, 8]: lane l has columns 2 (l % 4) and 2 (l % 4) + 1 of rows l / 4 and l / 4
  // + 8.
  using Scores = float[kKeys / 8][4];  // [16 queries, kKeys]
  using Out = float[kHead / 8][4];     // [16 queries, kHead]
};

// Tiles in shared memory: queries, then two slots of keys, then two slots of values; of 8 bits, two slots of the scales
// of keys and of values.
template <typename S>
LA_DEVICE bf16* query_tile() {
  return dynamic_shared<bf16>();
}
template <typename S>
LA_DEVICE bf16* key_tile(int slot) {
  return dynamic_shared<bf16>() + S::kQueries * S::kHead + slot * S::kKeyTile;
}
template <typename S>
LA_DEVICE bf16* value_tile(int slot) {
  return dynamic_shared<bf16>() + S::kQueries * S::kHead + (2 + slot) * S::kKeyTile;
}

template <typename S>
LA_DEVICE float* key_scales(int slot) {
  return dynamic_shared<float>() + S::kTileBytes / sizeof(float) + slot * 2 * S::kKeys;
}
template <typename S>
LA_DEVICE float* value_scales(int slot) {
  return key_scales<S>(slot) + S::kKeys;
}

// The kKeys keys that are multiplied together: they are of one segment, and begin at its key `first`.
struct KeyCursor {
  int segment, first;
};
template <typename S>
LA_DEVICE KeyCursor next_keys(KeyCursor c, const AttentionArgs& a) {
  c.first += S::kKeys;
  while (c.segment < a.segment_count && c.first >= a.segments[c.segment].length) c = {c.segment + 1, 0};
  return c;
}

// Starts to fill a tile with rows of x from `first` on, the block's head alone.
template <typename S, typename T>
LA_DEVICE void fill_keys_of(bf16* tile, const AttentionArgs& a, const void* x, int length, int first) {
  const T* head = static_cast<const T*>(x) + int64_t(blockIdx.y) * a.head;
  fill_tile<S::kKeys, S::kHead, S::kThreads, T>(tile, {head, int64_t(a.heads) * a.head, length, a.head}, first);
}
template <typename S>
LA_DEVICE void fill_keys(bf16* tile, const AttentionArgs& a, const Input& x, int length, int first) {
  if (S::kEightBit && x.type != ElementType::kBF16) {
    fill_keys_of<S, uint8_t>(tile, a, x.data, length, first);
  } else {
    fill_keys_of<S, bf16>(tile, a, x.data, length, first);
  }
}

// Scales of the tile's rows; 1 for rows without. One for each thread of half of the block.
template <typename S>
LA_DEVICE void fill_scales(float* scales, const AttentionArgs& a, const float* x, int length, int first) {
  const int r = int(threadIdx.x) % S::kKeys;
  if (x == nullptr) {
    scales[r] = 1;
  } else {
    const bool exists = first + r < length;
    copy_async<4>(scales + r, exists ? x + int64_t(first + r) * a.heads + blockIdx.y : x, exists ? 4 : 0);
  }
}

template <typename S>
LA_DEVICE void prefetch_keys(const AttentionArgs& a, KeyCursor c, int slot) {
  static_assert(S::kThreads == 2 * S::kKeys);
  if (c.segment < a.segment_count) {
    const Segment& s = a.segments[c.segment];
    fill_keys<S>(key_tile<S>(slot), a, s.k, s.length, c.first);
    fill_keys<S>(value_tile<S>(slot), a, s.v, s.length, c.first);
    if constexpr (S::kEightBit) {
      if (threadIdx.x < S::kKeys) {
        fill_scales<S>(key_scales<S>(slot), a, s.k_scale, s.length, c.first);
      } else {
        fill_scales<S>(value_scales<S>(slot), a, s.v_scale, s.length, c.first);
      }
    }
  }
  commit_copies();
}

// What this thread copied becomes bf16.
template <typename S>
LA_DEVICE void unpack_keys(bf16* tile, ElementType type) {
  if (type == ElementType::kI8) unpack_tile<S::kKeys, S::kHead, S::kThreads, int8_t>(tile);
  if (type == ElementType::kE4M3) unpack_tile<S::kKeys, S::kHead, S::kThreads, e4m3>(tile);
}

// The warp's queries as operands a: 16 rows.
template <typename S>
LA_DEVICE void load_queries(uint32_t (&q)[S::kHead / 16][4], int warp, int lane) {
#pragma unroll
  for (int d = 0; d < S::kHead / 16; ++d) load_a<S::kHead>(q[d], query_tile<S>(), warp * 16, d * 16, lane);
}

// scores += q k^T
template <typename S>
LA_DEVICE void multiply_keys(typename S::Scores& scores, const uint32_t (&q)[S::kHead / 16][4], int slot, int lane) {
#pragma unroll
  for (int d = 0; d < S::kHead / 16; ++d) {
#pragma unroll
    for (int j = 0; j < S::kKeys / 16; ++j) {
      uint32_t k[4];
      load_b<S::kHead>(k, key_tile<S>(slot), j * 16, d * 16, lane);
      multiply_bf16(scores[2 * j], q[d], k[0], k[1]);
      multiply_bf16(scores[2 * j + 1], q[d], k[2], k[3]);
    }
  }
}

// keys: how many of the tile exist.
template <typename S>
LA_DEVICE void scale_and_mask(typename S::Scores& scores, float scale, int keys, int lane) {
#pragma unroll
  for (int j = 0; j < S::kKeys / 8; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int key = j * 8 + lane % 4 * 2 + e % 2;
      scores[j][e] = key < keys ? scores[j][e] * scale : -INFINITY;
    }
  }
}

// scores *= what each key has in `scales`.
template <typename S>
LA_DEVICE void scale_keys(typename S::Scores& scores, const float* scales, int lane) {
#pragma unroll
  for (int j = 0; j < S::kKeys / 8; ++j) {
    const Vec<float, 2> pair = *reinterpret_cast<const Vec<float, 2>*>(scales + j * 8 + lane % 4 * 2);
#pragma unroll
    for (int e = 0; e < 4; ++e) scores[j][e] *= pair.at[e % 2];
  }
}

LA_DEVICE float max_of_row(float v) {  // a row lies in four lanes
  v = fmaxf(v, shuffle_xor(v, 1));
  return fmaxf(v, shuffle_xor(v, 2));
}
LA_DEVICE float sum_of_row(float v) {
  v += shuffle_xor(v, 1);
  return v + shuffle_xor(v, 2);
}

// Of a lane's two rows: the largest score so far, and the sum of this lane's exponentials relative to it.
struct OnlineSoftmax {
  float largest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};
};

// Turns scores into exponentials. Returns in `factor` what earlier results are to be multiplied by.
template <typename S>
LA_DEVICE void update(OnlineSoftmax& softmax, typename S::Scores& scores, float (&factor)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float largest = softmax.largest[h];
#pragma unroll
    for (int j = 0; j < S::kKeys / 8; ++j) largest = fmaxf(largest, fmaxf(scores[j][2 * h], scores[j][2 * h + 1]));
    largest = max_of_row(largest);
    factor[h] = exp2_fast(softmax.largest[h] - largest);
    softmax.largest[h] = largest;
    float sum = 0;
#pragma unroll
    for (int j = 0; j < S::kKeys / 8; ++j) {
#pragma unroll
      for (int e = 2 * h; e < 2 * h + 2; ++e) {
        scores[j][e] = exp2_fast(scores[j][e] - largest);
        sum += scores[j][e];
      }
    }
    softmax.sum[h] = softmax.sum[h] * factor[h] + sum;
  }
}

// out = factor * out + p v, with the exponentials p rounded to bf16. Fragments d of two products side by side are one
// fragment a of the next.
template <typename S>
LA_DEVICE void multiply_values(typename S::Out& out, const float (&factor)[2], const typename S::Scores& p, int slot,
                               int lane) {
#pragma unroll
  for (int n = 0; n < S::kHead / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) out[n][e] *= factor[e / 2];
  }
#pragma unroll
  for (int j = 0; j < S::kKeys / 16; ++j) {
    const float(&low)[4] = p[2 * j];
    const float(&high)[4] = p[2 * j + 1];
    const uint32_t a[4] = {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]),
                           pack_bf16(high[2], high[3])};
#pragma unroll
    for (int n = 0; n < S::kHead / 16; ++n) {
      uint32_t v[4];
      load_b_transposed<S::kHead>(v, value_tile<S>(slot), j * 16, n * 16, lane);
      multiply_bf16(out[2 * n], a, v[0], v[1]);
      multiply_bf16(out[2 * n + 1], a, v[2], v[3]);
    }
  }
}

// first_query: of the warp.
template <typename S>
LA_DEVICE void store_rows(const AttentionArgs& a, const typename S::Out& out, const OnlineSoftmax& softmax,
                          int first_query, int lane) {
  const int64_t stride = int64_t(a.heads) * a.head, head = int64_t(blockIdx.y) * a.head;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = first_query + lane / 4 + h * 8;
    const float inverse = 1.0f / sum_of_row(softmax.sum[h]);
    if (row >= a.queries) continue;
    uint32_t* target = reinterpret_cast<uint32_t*>(a.out + row * stride + head);
#pragma unroll
    for (int n = 0; n < S::kHead / 8; ++n) {
      if (n * 8 < a.head) target[n * 4 + lane % 4] = pack_bf16(out[n][2 * h] * inverse, out[n][2 * h + 1] * inverse);
    }
  }
}

// S: an AttentionShape.
template <typename S>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks) attention(LA_PARAMETER AttentionArgs a) {
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32);
  const int first_query = int(blockIdx.x) * S::kQueries;
  const int64_t stride = int64_t(a.heads) * a.head, head = int64_t(blockIdx.y) * a.head;
  fill_tile<S::kQueries, S::kHead, S::kThreads, bf16>(query_tile<S>(), {a.q + head, stride, a.queries, a.head},
                                                      first_query);
  KeyCursor now = next_keys<S>({0, -S::kKeys}, a);
  prefetch_keys<S>(a, now, 0);
  wait_copies<0>();
  sync_threads();
  uint32_t q[S::kHead / 16][4];
  load_queries<S>(q, warp, lane);

  typename S::Out out = {};
  OnlineSoftmax softmax;
  for (int slot = 0; now.segment < a.segment_count; slot ^= 1) {
    const KeyCursor next = next_keys<S>(now, a);
    prefetch_keys<S>(a, next, slot ^ 1);
    wait_copies<1>();
    if constexpr (S::kEightBit) {
      unpack_keys<S>(key_tile<S>(slot), a.segments[now.segment].k.type);
      unpack_keys<S>(value_tile<S>(slot), a.segments[now.segment].v.type);
    }
    sync_threads();
    typename S::Scores scores = {};
    multiply_keys<S>(scores, q, slot, lane);
    if constexpr (S::kEightBit) scale_keys<S>(scores, key_scales<S>(slot), lane);
    scale_and_mask<S>(scores, a.scale, a.segments[now.segment].length - now.first, lane);
    float factor[2];
    update<S>(softmax, scores, factor);
    if constexpr (S::kEightBit) scale_keys<S>(scores, value_scales<S>(slot), lane);
    multiply_values<S>(out, factor, scores, slot, lane);
    sync_threads();  // before the slot is filled again
    now = next;
  }
  wait_copies<0>();
  store_rows<S>(a, out, softmax, first_query + warp * 16, lane);
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
