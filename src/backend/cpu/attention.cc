// Attention in one pass over the keys with online softmax (Milakov and Gimelshein 2018; Dao et al. 2022): both products
// run on the matrix tiles. Key blocks are cut by the keys alone, so a query's sums never depend on the queries beside
// it.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/product.h"

namespace liveavatar::cpu {
namespace {

constexpr int64_t kKeyBlock = 512;
constexpr int64_t kMostTiles = 16;  // of queries that go through a block of keys while it is in the L2 cache
// Elements between rows of scores, and of weights: no power of two, so that they fall to different sets of a cache.
constexpr int64_t kScoreStride = kKeyBlock + 16, kWeightStride = kKeyBlock + 32;

// Keys and values of one head, packed in blocks: K as panels [keys / columns] over d, V as panels [d / columns] over
// keys.
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

// Where one row and head of keys or values lies; f32 and bf16 only.
Row row_at(const Tensor& t, int64_t element) {
  return {static_cast<const char*>(t.data) + static_cast<size_t>(element) * dtype_bytes(t.dtype), type_of(t.dtype)};
}

// How heads of width d are computed: the same for every call of a width and type.
struct HeadTiles {
  bool half = false;  // both products in bf16
  bool unit = false;  // on the matrix unit
  int64_t rows = 0;   // of a tile of queries
  int64_t width = 0;  // d rounded up to whole panels
  size_t row_bytes = 0;

  HeadTiles() = default;
  HeadTiles(const Kernels& kernels, int64_t d, DType dtype)
      : half(dtype == DType::kBF16),
        unit(half && kernels.matrix),
        rows(unit ? kMatrixRows : kRows),
        width((d + kernels.columns - 1) / kernels.columns * kernels.columns),
        row_bytes(static_cast<size_t>(d) * dtype_bytes(dtype)) {}

  // A matrix unit's queries: [pieces][rows][64 bytes].
  int64_t queries_bytes() const {
    return (static_cast<int64_t>(row_bytes) + kPieceBytes - 1) / kPieceBytes * kMatrixRows * kPieceBytes;
  }
  ScratchSizes scratch(int64_t columns) const {
    ScratchSizes s;
    s.want(Piece::kPointers, columns, sizeof(void*));
    s.want(Piece::kMorePointers, columns, sizeof(void*));
    s.want(Piece::kRowCopies, 2 * columns, row_bytes);
    s.want(Piece::kScores, rows * kScoreStride, sizeof(float));
    s.want(Piece::kOutput, kMostTiles * rows * width, sizeof(float));
    s.want(Piece::kWeights, rows * kWeightStride, half ? sizeof(bf16) : sizeof(float));
    if (unit) s.want(Piece::kQueries, kMostTiles * queries_bytes(), 1);
    return s;
  }
};

// One call: what is attended to, and how. run() takes a few queries of one head through all keys.
class Attention {
 public:
  Attention(const Kernels& kernels, const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
            const Tensor& out)
      : kernels_(kernels), q_(q), segments_(segments), spec_(spec), out_(out) {
    bool half = q.dtype == DType::kBF16;
    layout_.d = q.dim(1) / spec.heads;
    layout_.columns = kernels.columns;
    for (const KeyValues& s : segments) {
      layout_.keys += s.k.dim(0);
      half = half && s.k.dtype != DType::kF32 && s.v.dtype != DType::kF32;  // 8 bits are unpacked to bf16
    }
    layout_.dtype = half && layout_.d % 2 == 0 ? DType::kBF16 : DType::kF32;
    tiles_ = HeadTiles(kernels, layout_.d, layout_.dtype);
  }
  const HeadLayout& layout() const { return layout_; }
  const HeadTiles& tiles() const { return tiles_; }

  // Panels of one block, a panel's keys at a time.
  void pack(int64_t head, int64_t block, std::byte* target, ThreadScratch& t) const {
    PanelShape ks = layout_.k_shape(block);
    int64_t keys = layout_.block_keys(block), items = layout_.d * dtype_bytes(layout_.dtype) / 4;
    const void** k = t.at<const void*>(Piece::kPointers, layout_.columns);
    const void** v = t.at<const void*>(Piece::kMorePointers, layout_.columns);
    for (int64_t first = 0; first < keys; first += layout_.columns) {
      int count = static_cast<int>(std::min(layout_.columns, keys - first));
      find_rows(head, block * kKeyBlock + first, count, t);
      std::fill(k + count, k + layout_.columns, k[0]);  // columns that nobody looks at
      kernels_.transpose(k, static_cast<int>(layout_.columns), items,
                         target + static_cast<size_t>(first / layout_.columns) * ks.panel_bytes(), layout_.columns);
      pack_values(v, count, first, block, target + layout_.k_room());
    }
  }

  // Queries [first, last) of `head`, at most kMostTiles tiles; packed: the head's blocks.
  void run(int64_t head, int64_t first, int64_t last, const std::byte* packed, ThreadScratch& t) const {
    std::array<Rows, kMostTiles> tiles;
    int64_t count = 0, a_tile = tiles_.rows * tiles_.width;
    float* outputs = t.at<float>(Piece::kOutput, kMostTiles * a_tile);
    for (int64_t at = first; at < last; at += tiles_.rows, ++count) {
      Rows& r = tiles[static_cast<size_t>(count)];
      start(r, head, at, static_cast<int>(std::min(tiles_.rows, last - at)), t);
      if (tiles_.unit)
        lay_out(
            r, t.at<std::byte>(Piece::kQueries, (count + 1) * tiles_.queries_bytes()) + count * tiles_.queries_bytes());
    }
    for (int64_t block = 0; block < layout_.blocks(); ++block, packed += layout_.k_room() + layout_.v_room()) {
      for (int64_t i = 0; i < count; ++i) {
        Rows& r = tiles[static_cast<size_t>(i)];
        float* output = outputs + i * a_tile;
        score(r, block, packed, t);
        weigh(r, block, t);
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

  void lay_out(Rows& r, std::byte* target) const {
    for (int i = 0; i < r.count; ++i)
      lay_out_pieces(r.queries[i], static_cast<int64_t>(tiles_.row_bytes), target + i * kPieceBytes,
                     r.count * kPieceBytes);
    r.laid_out = target;
  }

  // Pointers to the rows of `count` keys, and of their values, from `first`; those that are held in another type than
  // the panels' are copied.
  void find_rows(int64_t head, int64_t first, int count, ThreadScratch& t) const {
    std::byte* copies = t.at<std::byte>(Piece::kRowCopies, 2 * count * static_cast<int64_t>(tiles_.row_bytes));
    const void** keys = t.at<const void*>(Piece::kPointers, count);
    const void** values = t.at<const void*>(Piece::kMorePointers, count);
    int64_t before = 0;
    for (const KeyValues& s : segments_) {
      int64_t width = s.k.dim(1), end = std::min(first + count, before + s.k.dim(0));
      for (int64_t key = std::max(first, before); key < end; ++key, copies += 2 * tiles_.row_bytes) {
        int64_t row = key - before, element = row * width + head * layout_.d,
                scale_at = row * (width / layout_.d) + head;
        keys[key - first] = as_packed(s.k, s.k_scale, element, scale_at, copies);
        values[key - first] = as_packed(s.v, s.v_scale, element, scale_at, copies + tiles_.row_bytes);
      }
      before += s.k.dim(0);
    }
  }
  const void* as_packed(const Tensor& x, const Tensor& scale, int64_t element, int64_t scale_at,
                        std::byte* copy) const {
    if (x.dtype == layout_.dtype) return row_at(x, element).data;
    Type type = type_of(layout_.dtype);
    if (is_8bit(x.dtype)) {
      auto decode = x.dtype == DType::kI8 ? kernels_.decode_i8 : kernels_.decode_f8;
      decode(static_cast<const uint8_t*>(x.data) + element, layout_.d, scale.f32()[scale_at], copy, type);
    } else {
      kernels_.activate(row_at(x, element), layout_.d, Act::kNone, copy, type);
    }
    return copy;
  }

  // `count` keys' values as depth `first` and on of a block's V panels. `first` is even.
  void pack_values(const void* const* rows, int count, int64_t first, int64_t block, std::byte* target) const {
    PanelShape vs = layout_.v_shape(block);
    int64_t columns = layout_.columns, item = dtype_bytes(layout_.dtype);
    auto part = [&](int i, int64_t column) {
      return i < count ? static_cast<const std::byte*>(rows[i]) + column * item : nullptr;
    };
    for (int64_t column = 0; column < layout_.d; column += columns, target += vs.panel_bytes()) {
      int64_t n = std::min(columns, layout_.d - column);
      for (int i = 0; i < count; i += tiles_.half ? 2 : 1) {
        std::byte* to = target + static_cast<size_t>((first + i) * columns * item);
        if (tiles_.half) {
          kernels_.zip(part(i, column), part(i + 1, column), n, to);
        } else {
          std::memcpy(to, part(i, column), static_cast<size_t>(n * item));
          std::memset(to + n * item, 0, static_cast<size_t>((columns - n) * item));
        }
      }
    }
  }

  void* at(const Tensor& t, int64_t row, int64_t head) const {
    return static_cast<char*>(t.data) + static_cast<size_t>(row * q_.dim(1) + head * layout_.d) * dtype_bytes(t.dtype);
  }

  // sums = a times panels, one after the other; a and all else is in args.
  template <typename Args>
  static void multiply(void (*product)(const Args&), Args args, const PanelShape& shape, const std::byte* panels,
                       float* sums) {
    for (int64_t panel = 0; panel < shape.panels(); ++panel) {
      args.b = panels + static_cast<size_t>(panel) * shape.panel_bytes();
      args.sums = sums + panel * shape.columns;
      args.columns = static_cast<int>(std::min<int64_t>(shape.columns, shape.n - panel * shape.columns));
      product(args);
    }
  }

  // scores = q k^T over one block of keys
  void score(const Rows& r, int64_t block, const std::byte* packed, ThreadScratch& t) const {
    PanelShape shape = layout_.k_shape(block);
    float* scores = t.at<float>(Piece::kScores, tiles_.rows * kScoreStride);
    if (tiles_.unit) {
      MatrixArgs args{
          .a = &r.laid_out, .row_bytes = kPieceBytes, .piece_bytes = r.count * kPieceBytes, .rows = r.count};
      args.items = layout_.d / 2;
      args.stride = kScoreStride;
      return multiply(kernels_.matrix, args, shape, packed, scores);
    }
    TileArgs args{.a = r.queries, .rows = r.count, .k = layout_.d, .stride = kScoreStride};
    multiply(kernels_.tile[q_.dtype == DType::kBF16][tiles_.half], args, shape, packed, scores);
  }

  // weights = exp(scores - largest so far); what came before shrinks by `factor`
  void weigh(Rows& r, int64_t block, ThreadScratch& t) const {
    int64_t keys = layout_.block_keys(block);
    float* scores = t.at<float>(Piece::kScores, tiles_.rows * kScoreStride);
    for (int i = 0; i < r.count; ++i) {
      const float* bias =
          spec_.bias.empty() ? nullptr
                             : spec_.bias.f32() + (r.head * q_.dim(0) + r.first + i) * layout_.keys + block * kKeyBlock;
      float before = r.largest[i];
      float sum = kernels_.online_softmax(scores + i * kScoreStride, keys, spec_.scale, bias, before, &r.largest[i],
                                          r.weights[i], tiles_.half ? Type::kBF16 : Type::kF32);
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
    PanelShape shape = layout_.v_shape(block);
    int64_t keys = layout_.block_keys(block);
    if (tiles_.unit) {
      const void* weights = r.weights[0];
      MatrixArgs args{.a = &weights, .row_bytes = kWeightStride * 2, .piece_bytes = kPieceBytes, .rows = r.count};
      args.items = (keys + 1) / 2;
      args.stride = tiles_.width;
      args.more = block > 0;
      return multiply(kernels_.matrix, args, shape, values, output);
    }
    TileArgs args{.a = r.weights, .rows = r.count, .k = tiles_.half ? (keys + 1) / 2 * 2 : keys};
    args.stride = static_cast<int>(tiles_.width);
    args.more = block > 0;
    multiply(kernels_.tile[tiles_.half][tiles_.half], args, shape, values, output);
  }

  void finish(const Rows& r, float* output) const {
    for (int i = 0; i < r.count; ++i, output += tiles_.width) {
      kernels_.rescale(output, 1.0f / r.total[i], layout_.d);
      kernels_.activate({output, Type::kF32}, layout_.d, Act::kNone, at(out_, r.first + i, r.head),
                        type_of(out_.dtype));
    }
  }

  const Kernels& kernels_;
  const Tensor& q_;
  std::span<const KeyValues> segments_;
  const AttentionSpec& spec_;
  const Tensor& out_;
  HeadLayout layout_;
  HeadTiles tiles_;
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

ScratchSizes CpuBackend::attention_scratch(const AttentionSize& size) const {
  return HeadTiles(kernels_, size.width / size.heads, size.dtype).scratch(kernels_.columns);
}

Status CpuBackend::reserve(const LargestOps& largest) {
  AttentionSize a = largest.attention;
  if (a.width / a.heads % 2 != 0) a.dtype = DType::kF32;
  HeadLayout layout{a.keys, a.width / a.heads, kernels_.columns, a.dtype};
  size_t bytes = static_cast<size_t>(heads_at_once(a.heads)) * layout.head_bytes();
  LA_RETURN_IF_ERROR(grow(packed_, std::max(bytes, laid_out_bytes(largest.linear_elements)), budget_));
  LA_RETURN_IF_ERROR(scratch_.reserve(attention_scratch(a), budget_));
  LA_RETURN_IF_ERROR(scratch_.reserve(linear_scratch(largest.linear_k), budget_));
  for (const ConvSize& size : largest.convs) LA_RETURN_IF_ERROR(reserve_conv(size));
  return {};
}

void CpuBackend::attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                           const Tensor& out) {
  const Attention attention(kernels_, q, segments, spec, out);
  const HeadLayout& layout = attention.layout();
  int64_t at_once = heads_at_once(spec.heads);
  scratch_.lay_out(attention.tiles().scratch(layout.columns), outside_);
  have_packed(static_cast<size_t>(at_once) * layout.head_bytes());
  size_t block_bytes = layout.k_room() + layout.v_room();
  for (int64_t head = 0; head < spec.heads; head += at_once) {
    int64_t count = std::min(at_once, spec.heads - head);
    int64_t queries = queries_at_once(q.dim(0), attention.tiles().rows, count, pool_.threads());
    int64_t parts = (q.dim(0) + queries - 1) / queries;
    pool_.parallel_for(count * layout.blocks(), 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        attention.pack(head + i / layout.blocks(), i % layout.blocks(),
                       packed_.data() + static_cast<size_t>(i) * block_bytes, scratch_.of(thread));
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
