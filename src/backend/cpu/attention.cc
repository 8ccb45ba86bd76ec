// Attention in one pass over the keys with online softmax (Milakov and Gimelshein 2018; Dao et al. 2022): both products
// run on the matrix tiles, the first in 8 bits where that is asked for.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "backend/cpu/attention_keys.h"
#include "backend/cpu/product.h"

namespace liveavatar::cpu {
namespace {

constexpr int64_t kMostTiles = 16;  // of queries that go through a block of keys while it is in the L2 cache
// Elements between rows of scores, and of weights: no power of two, so that they fall to different sets of a cache.
constexpr int64_t kScoreStride = kKeyBlock + 16, kWeightStride = kKeyBlock + 32;

// How queries go through heads of a layout: the same for every call of a width and type.
struct HeadTiles {
  bool half = false;      // the second product in bf16, and the first where it is not in codes
  bool codes = false;     // the first in 8 bits
  bool unit = false;      // on the matrix unit
  int64_t rows = 0;       // of a tile of queries
  int64_t width = 0;      // d rounded up to whole panels
  int64_t row_bytes = 0;  // of a query

  HeadTiles() = default;
  HeadTiles(const Kernels& kernels, const HeadLayout& layout)
      : half(layout.dtype == DType::kBF16),
        codes(layout.codes),
        unit(half && kernels.matrix),
        rows(unit ? kMatrixRows : kRows),
        width((layout.d + kernels.columns - 1) / kernels.columns * kernels.columns),
        row_bytes(layout.row_bytes()) {}

  // Queries are laid out anew: as codes [rows][row_bytes], for a matrix unit [pieces][rows][64 bytes].
  bool laid_out() const { return codes || unit; }
  int64_t queries_bytes() const {
    int64_t pieces = (row_bytes + kPieceBytes - 1) / kPieceBytes;
    return rows * (unit ? pieces * kPieceBytes : row_bytes);
  }
  ScratchSizes scratch() const {
    ScratchSizes s;
    s.want(Piece::kScores, rows * kScoreStride, sizeof(float));
    s.want(Piece::kOutput, kMostTiles * rows * width, sizeof(float));
    s.want(Piece::kWeights, rows * kWeightStride, half ? sizeof(bf16) : sizeof(float));
    if (laid_out()) s.want(Piece::kQueries, kMostTiles * queries_bytes(), 1);
    return s;
  }
};

ScratchSizes scratch_of(const Kernels& kernels, const HeadLayout& layout) {
  ScratchSizes s = layout.scratch();
  s.want(HeadTiles(kernels, layout).scratch());
  return s;
}

// One call: what is attended to, and how. run() takes a few queries of one head through all keys.
class Attention {
 public:
  Attention(const Kernels& kernels, const HeadLayout& layout, const Tensor& q, const AttentionSpec& spec,
            const Tensor& out)
      : kernels_(kernels), layout_(layout), tiles_(kernels, layout), q_(q), spec_(spec), out_(out) {}
  int64_t tile_rows() const { return tiles_.rows; }

  // Queries [first, last) of `head`, at most kMostTiles tiles; packed: the head's blocks.
  void run(int64_t head, int64_t first, int64_t last, const std::byte* packed, ThreadScratch& t) const {
    std::array<Rows, kMostTiles> tiles;
    int64_t count = 0, a_tile = tiles_.rows * tiles_.width;
    float* outputs = t.at<float>(Piece::kOutput, kMostTiles * a_tile);
    for (int64_t at = first; at < last; at += tiles_.rows, ++count) {
      Rows& r = tiles[static_cast<size_t>(count)];
      start(r, head, at, static_cast<int>(std::min(tiles_.rows, last - at)), t);
      int64_t bytes = tiles_.queries_bytes();
      if (tiles_.laid_out()) lay_out(r, t.at<std::byte>(Piece::kQueries, (count + 1) * bytes) + count * bytes, t);
    }
    for (int64_t block = 0; block < layout_.blocks(); ++block, packed += layout_.block_bytes()) {
      for (int64_t i = 0; i < count; ++i) {
        Rows& r = tiles[static_cast<size_t>(i)];
        float* output = outputs + i * a_tile;
        score(r, block, packed, t);
        weigh(r, block, packed, t);
        shrink(r, block, output);
        gather(r, block, packed + layout_.k_room(), output);
      }
    }
    for (int64_t i = 0; i < count; ++i) finish(tiles[static_cast<size_t>(i)], outputs + i * a_tile);
  }

 private:
  struct Rows {
    int64_t head = 0, first = 0;
    int count = 0;
    const void* queries[kMatrixRows] = {};
    const void* laid_out = nullptr;
    float scales[kMatrixRows] = {};  // of codes
    void* weights[kMatrixRows] = {};
    float largest[kMatrixRows] = {}, total[kMatrixRows] = {}, factor[kMatrixRows] = {};
  };

  void start(Rows& r, int64_t head, int64_t first, int count, ThreadScratch& t) const {
    r = Rows{head, first, count};
    std::fill_n(r.largest, count, -std::numeric_limits<float>::infinity());
    int64_t a_row = kWeightStride * (tiles_.half ? 2 : 4);
    std::byte* weights = t.at<std::byte>(Piece::kWeights, count * a_row);
    for (int i = 0; i < count; ++i) {
      r.queries[i] = at(q_, first + i, head);
      r.weights[i] = weights + i * a_row;
    }
  }

  void lay_out(Rows& r, std::byte* target, ThreadScratch& t) const {
    for (int i = 0; i < r.count; ++i) {
      const void* row = r.queries[i];
      if (tiles_.codes) {
        std::byte* codes =
            tiles_.unit ? t.at<std::byte>(Piece::kCodes, tiles_.row_bytes) : target + i * tiles_.row_bytes;
        kernels_.quantise_row({row, type_of(q_.dtype)}, layout_.d, reinterpret_cast<unsigned char*>(codes),
                              r.scales + i);
        row = codes;
      }
      if (tiles_.unit) lay_out_pieces(row, tiles_.row_bytes, target + i * kPieceBytes, r.count * kPieceBytes);
    }
    r.laid_out = target;
  }

  void* at(const Tensor& t, int64_t row, int64_t head) const {
    return static_cast<char*>(t.data) + static_cast<size_t>(row * q_.dim(1) + head * layout_.d) * dtype_bytes(t.dtype);
  }

  // sums = a times panels of n columns, one after the other; a and all else is in args.
  template <typename Args>
  void multiply(void (*product)(const Args&), Args args, int64_t n, size_t panel_bytes, const std::byte* panels,
                float* sums) const {
    for (int64_t first = 0; first < n; first += layout_.columns, panels += panel_bytes) {
      args.b = panels;
      args.sums = reinterpret_cast<decltype(args.sums)>(sums + first);
      args.columns = static_cast<int>(std::min(layout_.columns, n - first));
      product(args);
    }
  }

  // scores = q k^T over one block of keys; of codes: their sums
  void score(const Rows& r, int64_t block, const std::byte* packed, ThreadScratch& t) const {
    int64_t keys = layout_.block_keys(block);
    size_t panel_bytes = layout_.k_panel_bytes();
    float* scores = t.at<float>(Piece::kScores, tiles_.rows * kScoreStride);
    if (tiles_.unit) {
      MatrixArgs args{
          .a = &r.laid_out, .row_bytes = kPieceBytes, .piece_bytes = r.count * kPieceBytes, .rows = r.count};
      args.items = layout_.k_items();
      args.stride = kScoreStride;
      return multiply(tiles_.codes ? kernels_.matrix_i8 : kernels_.matrix, args, keys, panel_bytes, packed, scores);
    }
    if (tiles_.codes) {
      QuadArgs args{.a = static_cast<const unsigned char*>(r.laid_out), .stride = tiles_.row_bytes};
      args.quads = layout_.k_items();
      args.rows = r.count;
      args.sums_stride = kScoreStride;
      return multiply(kernels_.quad_tile, args, keys, panel_bytes, packed, scores);
    }
    TileArgs args{.a = r.queries, .rows = r.count, .k = layout_.d, .stride = kScoreStride};
    multiply(kernels_.tile[q_.dtype == DType::kBF16][tiles_.half], args, keys, panel_bytes, packed, scores);
  }

  // weights = exp(scores - largest so far); what came before shrinks by `factor`
  void weigh(Rows& r, int64_t block, const std::byte* packed, ThreadScratch& t) const {
    int64_t keys = layout_.block_keys(block);
    float* scores = t.at<float>(Piece::kScores, tiles_.rows * kScoreStride);
    for (int i = 0; i < r.count; ++i, scores += kScoreStride) {
      const float* bias =
          spec_.bias.empty() ? nullptr
                             : spec_.bias.f32() + (r.head * q_.dim(0) + r.first + i) * layout_.keys + block * kKeyBlock;
      float before = r.largest[i], scale = spec_.scale;
      if (tiles_.codes) {
        kernels_.scale_codes(reinterpret_cast<int*>(scores), keys,
                             reinterpret_cast<const int*>(packed + layout_.k_offsets_at()),
                             reinterpret_cast<const float*>(packed + layout_.k_scales_at()));
        scale *= r.scales[i];
      }
      float sum = kernels_.online_softmax(scores, keys, scale, bias, before, &r.largest[i], r.weights[i],
                                          tiles_.half ? Type::kBF16 : Type::kF32);
      if (tiles_.half && keys % 2 != 0) static_cast<bf16*>(r.weights[i])[keys] = bf16{0};  // the pair of the last key
      r.factor[i] = block == 0 ? 0.0f : std::exp(before - r.largest[i]);
      r.total[i] = r.total[i] * r.factor[i] + sum;
    }
  }

  void shrink(const Rows& r, int64_t block, float* output) const {
    for (int i = 0; i < r.count && block > 0; ++i) {
      if (r.factor[i] != 1.0f) kernels_.rescale(output + i * tiles_.width, r.factor[i], layout_.d);
    }
  }

  // output += weights v
  void gather(const Rows& r, int64_t block, const std::byte* values, float* output) const {
    size_t panel_bytes = layout_.v_shape(block).panel_bytes();
    int64_t keys = layout_.block_keys(block);
    if (tiles_.unit) {
      const void* weights = r.weights[0];
      MatrixArgs args{.a = &weights, .row_bytes = kWeightStride * 2, .piece_bytes = kPieceBytes, .rows = r.count};
      args.items = (keys + 1) / 2;
      args.stride = tiles_.width;
      args.more = block > 0;
      return multiply(kernels_.matrix, args, layout_.d, panel_bytes, values, output);
    }
    TileArgs args{.a = r.weights, .rows = r.count, .k = tiles_.half ? (keys + 1) / 2 * 2 : keys};
    args.stride = static_cast<int>(tiles_.width);
    args.more = block > 0;
    multiply(kernels_.tile[tiles_.half][tiles_.half], args, layout_.d, panel_bytes, values, output);
  }

  void finish(const Rows& r, float* output) const {
    for (int i = 0; i < r.count; ++i, output += tiles_.width) {
      kernels_.rescale(output, 1.0f / r.total[i], layout_.d);
      kernels_.activate({output, Type::kF32}, layout_.d, Act::kNone, at(out_, r.first + i, r.head),
                        type_of(out_.dtype));
    }
  }

  const Kernels& kernels_;
  const HeadLayout& layout_;
  HeadTiles tiles_;
  const Tensor& q_;
  const AttentionSpec& spec_;
  const Tensor& out_;
};

// Whole tiles, many for the caches' sake, few enough that every thread has some pieces of work.
int64_t queries_at_once(int64_t queries, int64_t rows, int64_t heads, int threads) {
  int64_t tiles = (queries + rows - 1) / rows;
  return std::clamp<int64_t>(tiles * heads / (threads * kJobsPerThread), 1, kMostTiles) * rows;
}

}  // namespace

// Some heads at a time: enough to keep every thread busy, few enough to stay small.
int64_t CpuBackend::heads_at_once(int64_t heads) const {
  return std::min<int64_t>(heads, std::max<int64_t>(pool_.threads(), 4));
}

void CpuBackend::have_packed(size_t bytes) {
  Status grown = grow(packed_, bytes, outside_);
  LA_CHECK(grown.ok());
}

Status CpuBackend::reserve(const LargestOps& largest) {
  const AttentionSize& a = largest.attention;
  HeadLayout layout{a.keys, a.width / a.heads, kernels_.columns, a.dtype};
  if (layout.d % 2 != 0) layout.dtype = DType::kF32;
  HeadLayout coarse = layout;
  coarse.codes = int8_products_ && layout.dtype == DType::kBF16;
  size_t bytes = static_cast<size_t>(heads_at_once(a.heads)) * std::max(layout.head_bytes(), coarse.head_bytes());
  LA_RETURN_IF_ERROR(grow(packed_, std::max(bytes, laid_out_bytes(largest.linear_elements)), budget_));
  for (const HeadLayout& l : {layout, coarse}) LA_RETURN_IF_ERROR(scratch_.reserve(scratch_of(kernels_, l), budget_));
  LA_RETURN_IF_ERROR(scratch_.reserve(linear_scratch(largest.linear_k), budget_));
  for (const ConvSize& size : largest.convs) LA_RETURN_IF_ERROR(reserve_conv(size));
  return {};
}

HeadLayout CpuBackend::head_layout(const Tensor& q, std::span<const KeyValues> segments,
                                   const AttentionSpec& spec) const {
  HeadLayout layout{0, q.dim(1) / spec.heads, kernels_.columns, DType::kF32};
  bool half = q.dtype == DType::kBF16 && layout.d % 2 == 0;
  for (const KeyValues& s : segments) {
    layout.keys += s.k.dim(0);
    half = half && s.k.dtype != DType::kF32 && s.v.dtype != DType::kF32;  // 8 bits are unpacked to bf16
  }
  if (half) layout.dtype = DType::kBF16;
  layout.codes = half && int8_products_ && spec.in_8bit;
  return layout;
}

void CpuBackend::attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                           const Tensor& out) {
  const HeadLayout layout = head_layout(q, segments, spec);
  const KeyPanels keys(kernels_, segments, layout);
  const Attention attention(kernels_, layout, q, spec, out);
  int64_t at_once = heads_at_once(spec.heads), blocks = layout.blocks();
  scratch_.lay_out(scratch_of(kernels_, layout), outside_);
  have_packed(static_cast<size_t>(at_once) * layout.head_bytes());
  for (int64_t head = 0; head < spec.heads; head += at_once) {
    int64_t count = std::min(at_once, spec.heads - head);
    int64_t queries = queries_at_once(q.dim(0), attention.tile_rows(), count, pool_.threads());
    int64_t parts = (q.dim(0) + queries - 1) / queries;
    pool_.parallel_for(count * blocks, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        std::byte* target = packed_.data() + static_cast<size_t>(i) * layout.block_bytes();
        keys.pack(head + i / blocks, i % blocks, target, scratch_.of(thread));
      }
    });
    pool_.parallel_for(count * parts, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t first = i % parts * queries;
        attention.run(head + i / parts, first, std::min(first + queries, q.dim(0)),
                      packed_.data() + static_cast<size_t>(i / parts) * layout.head_bytes(), scratch_.of(thread));
      }
    });
  }
}

}  // namespace liveavatar::cpu
