// Attention in one pass over the keys with online softmax (Milakov and Gimelshein 2018; Dao et al. 2022): both products
// run on the matrix tiles. Key blocks are cut by the keys alone, so a query's sums never depend on the queries beside
// it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "backend/cpu/cpu_backend.h"

namespace liveavatar::cpu {
namespace {

constexpr int64_t kKeyBlock = 512;

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

// A row of 8-bit keys or values of one head.
struct Codes {
  const uint8_t* codes;
  const float* decoded;  // of every code
  float scale;
  float operator[](int64_t i) const { return scale * decoded[codes[i]]; }
};

const float* decoded_8bit(DType type) {
  static const std::array<std::array<float, 256>, 2> tables = [] {
    std::array<std::array<float, 256>, 2> t{};
    for (int i = 0; i < 256; ++i) {
      t[0][static_cast<size_t>(i)] = decode_8bit(DType::kI8, static_cast<uint8_t>(i));
      t[1][static_cast<size_t>(i)] = decode_8bit(DType::kF8E4M3, static_cast<uint8_t>(i));
    }
    return t;
  }();
  return tables[type == DType::kI8 ? 0 : 1].data();
}

// use(row): the d elements of one row and head, whatever they are held in; row[i] is f32 or bf16.
template <typename Use>
void with_row(const Tensor& t, const Tensor& scale, int64_t at, int64_t scale_at, Use&& use) {
  if (t.dtype == DType::kF32) return use(static_cast<const float*>(t.data) + at);
  if (t.dtype == DType::kBF16) return use(static_cast<const bf16*>(t.data) + at);
  use(Codes{static_cast<const uint8_t*>(t.data) + at, decoded_8bit(t.dtype), scale.f32()[scale_at]});
}

template <typename T, typename From>
T converted(From x) {
  if constexpr (std::is_same_v<T, From>) {
    return x;
  } else if constexpr (sizeof(T) == 4) {
    return to_f32(x);
  } else {
    return to_bf16(x);
  }
}

// Where element (n, k) of a panel (pack.h) lies: n * kPair + k's part.
template <typename T>
constexpr int64_t kPair = sizeof(T) == 4 ? 1 : 2;
template <typename T>
int64_t depth_at(int64_t k, int64_t columns) {
  return sizeof(T) == 4 ? k * columns : k / 2 * columns * 2 + k % 2;
}

// One key's d elements as column `key` of the K panels.
template <typename T, typename Row>
void pack_key(const HeadLayout& layout, const PanelShape& shape, const Row& row, int64_t key, std::byte* target) {
  T* to = reinterpret_cast<T*>(target + static_cast<size_t>(key / layout.columns) * shape.panel_bytes());
  to += key % layout.columns * kPair<T>;
  for (int64_t c = 0; c < layout.d; ++c) to[depth_at<T>(c, layout.columns)] = converted<T>(row[c]);
}

// One key's values as depth `key` of the V panels.
template <typename T, typename Row>
void pack_values(const HeadLayout& layout, const PanelShape& shape, const Row& row, int64_t key, std::byte* target) {
  int64_t columns = layout.columns;
  for (int64_t first = 0; first < layout.d; first += columns, target += shape.panel_bytes()) {
    T* to = reinterpret_cast<T*>(target) + depth_at<T>(key, columns);
    for (int64_t c = first; c < std::min(layout.d, first + columns); ++c)
      to[(c - first) * kPair<T>] = converted<T>(row[c]);
  }
}

template <typename T>
void pack_block(const HeadLayout& layout, std::span<const KeyValues> segments, int64_t head, int64_t block,
                std::byte* target) {
  PanelShape ks = layout.k_shape(block), vs = layout.v_shape(block);
  std::memset(target, 0, layout.k_room() + layout.v_room());
  int64_t first = block * kKeyBlock, before = 0;
  for (const KeyValues& s : segments) {
    int64_t width = s.k.dim(1), begin = std::max(first, before),
            end = std::min(first + layout.block_keys(block), before + s.k.dim(0));
    for (int64_t key = begin; key < end; ++key) {
      int64_t row = key - before, at = row * width + head * layout.d, scale_at = row * (width / layout.d) + head;
      with_row(s.k, s.k_scale, at, scale_at, [&](auto k) { pack_key<T>(layout, ks, k, key - first, target); });
      with_row(s.v, s.v_scale, at, scale_at,
               [&](auto v) { pack_values<T>(layout, vs, v, key - first, target + layout.k_room()); });
    }
    before += s.k.dim(0);
  }
}

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
    half_ = half && layout_.d % 2 == 0;
    layout_.dtype = half_ ? DType::kBF16 : DType::kF32;
    width_ = (layout_.d + layout_.columns - 1) / layout_.columns * layout_.columns;
  }
  const HeadLayout& layout() const { return layout_; }

  void pack(int64_t head, int64_t block, std::byte* target) const {
    (half_ ? pack_block<bf16> : pack_block<float>)(layout_, segments_, head, block, target);
  }

  // Queries [first, first + rows) of `head`; packed: the head's blocks.
  void run(int64_t head, int64_t first, int rows, const std::byte* packed, ThreadScratch& t) const {
    t.scores.resize(std::max<size_t>(t.scores.size(), kRows * kKeyBlock));
    t.output.resize(std::max<size_t>(t.output.size(), static_cast<size_t>(kRows * width_)));
    t.weights.resize(std::max<size_t>(t.weights.size(), kRows * kKeyBlock * 4));
    std::fill_n(t.output.begin(), kRows * width_, 0.0f);
    Rows r{head, first, rows};
    std::fill_n(r.largest, kRows, -std::numeric_limits<float>::infinity());
    for (int i = 0; i < rows; ++i) {
      r.queries[i] = at(q_, first + i, head);
      r.weights[i] = t.weights.data() + static_cast<size_t>(i * kKeyBlock) * (half_ ? 2 : 4);
    }
    for (int64_t block = 0; block < layout_.blocks(); ++block, packed += layout_.k_room() + layout_.v_room()) {
      score(r, block, packed, t);
      weigh(r, block, t);
      gather(r, block, packed + layout_.k_room(), t);
    }
    finish(r, t);
  }

 private:
  struct Rows {
    int64_t head = 0, first = 0;
    int count = 0;
    const void* queries[kRows] = {};
    void* weights[kRows] = {};
    float largest[kRows] = {}, total[kRows] = {}, factor[kRows] = {};
  };

  void* at(const Tensor& t, int64_t row, int64_t head) const {
    return static_cast<char*>(t.data) + static_cast<size_t>(row * q_.dim(1) + head * layout_.d) * dtype_bytes(t.dtype);
  }

  // scores = q k^T over one block of keys
  void score(const Rows& r, int64_t block, const std::byte* packed, ThreadScratch& t) const {
    PanelShape shape = layout_.k_shape(block);
    auto tile = kernels_.tile[q_.dtype == DType::kBF16][half_];
    for (int64_t panel = 0; panel < shape.panels(); ++panel) {
      int64_t count = std::min(layout_.columns, layout_.block_keys(block) - panel * layout_.columns);
      tile({r.queries, r.count, 1, layout_.d, packed + static_cast<size_t>(panel) * shape.panel_bytes(), t.sums,
            static_cast<int>(count)});
      for (int i = 0; i < r.count; ++i) {
        std::memcpy(&t.scores[static_cast<size_t>(i * kKeyBlock + panel * layout_.columns)],
                    t.sums + i * layout_.columns, static_cast<size_t>(count) * sizeof(float));
      }
    }
  }

  // weights = exp(scores - largest so far); what came before shrinks by `factor`
  void weigh(Rows& r, int64_t block, ThreadScratch& t) const {
    int64_t keys = layout_.block_keys(block);
    for (int i = 0; i < r.count; ++i) {
      const float* bias =
          spec_.bias.empty() ? nullptr
                             : spec_.bias.f32() + (r.head * q_.dim(0) + r.first + i) * layout_.keys + block * kKeyBlock;
      float before = r.largest[i];
      float sum = kernels_.online_softmax(&t.scores[static_cast<size_t>(i * kKeyBlock)], keys, spec_.scale, bias,
                                          before, &r.largest[i], r.weights[i], half_ ? Type::kBF16 : Type::kF32);
      if (half_ && keys % 2 != 0) static_cast<bf16*>(r.weights[i])[keys] = bf16{0};  // the pair of the last key
      r.factor[i] = block == 0 ? 0.0f : std::exp(before - r.largest[i]);
      r.total[i] = r.total[i] * r.factor[i] + sum;
    }
  }

  // output = output * factor + weights v
  void gather(const Rows& r, int64_t block, const std::byte* values, ThreadScratch& t) const {
    PanelShape shape = layout_.v_shape(block);
    int64_t keys = layout_.block_keys(block), depth = half_ ? (keys + 1) / 2 * 2 : keys;
    auto tile = kernels_.tile[half_][half_];
    for (int64_t panel = 0; panel < shape.panels(); ++panel) {
      int64_t count = std::min(layout_.columns, layout_.d - panel * layout_.columns);
      tile({r.weights, r.count, 1, depth, values + static_cast<size_t>(panel) * shape.panel_bytes(), t.sums,
            static_cast<int>(count)});
      for (int i = 0; i < r.count; ++i) {
        float* row = &t.output[static_cast<size_t>(i * width_ + panel * layout_.columns)];
        kernels_.rescale_add(row, r.factor[i], t.sums + i * layout_.columns, count);
      }
    }
  }

  void finish(const Rows& r, ThreadScratch& t) const {
    for (int i = 0; i < r.count; ++i) {
      float* row = &t.output[static_cast<size_t>(i * width_)];
      float inverse = 1.0f / r.total[i];
      for (int64_t c = 0; c < layout_.d; ++c) row[c] *= inverse;
      kernels_.activate({row, Type::kF32}, layout_.d, Act::kNone, at(out_, r.first + i, r.head), type_of(out_.dtype));
    }
  }

  const Kernels& kernels_;
  const Tensor& q_;
  std::span<const KeyValues> segments_;
  const AttentionSpec& spec_;
  const Tensor& out_;
  HeadLayout layout_;
  bool half_ = false;  // both products in bf16
  int64_t width_ = 0;  // d rounded up to whole panels
};

}  // namespace

// Some heads at a time: enough to keep every thread busy, few enough to stay small.
int64_t CpuBackend::heads_at_once(int64_t heads) const {
  return std::min<int64_t>(heads, std::max<int64_t>(pool_.threads(), 4));
}

Status CpuBackend::grow_packed_keys(Budget& budget, size_t bytes) {
  if (bytes <= packed_keys_.bytes()) return {};
  packed_keys_ = Buffer();  // the old ones first: both at once would be the peak
  LA_ASSIGN_OR_RETURN(packed_keys_, Buffer::allocate(budget, Tenant::kRuntime, bytes));
  return {};
}

Status CpuBackend::reserve(const AttentionSize& largest) {
  HeadLayout layout{largest.keys, largest.width / largest.heads, kernels_.columns, largest.dtype};
  if (layout.d % 2 != 0) layout.dtype = DType::kF32;
  return grow_packed_keys(budget_, static_cast<size_t>(heads_at_once(largest.heads)) * layout.head_bytes());
}

void CpuBackend::attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                           const Tensor& out) {
  const Attention attention(kernels_, q, segments, spec, out);
  const HeadLayout& layout = attention.layout();
  int64_t at_once = heads_at_once(spec.heads);
  Status grown = grow_packed_keys(outside_, static_cast<size_t>(at_once) * layout.head_bytes());
  LA_CHECK(grown.ok());
  int64_t tiles = (q.dim(0) + kRows - 1) / kRows;
  size_t block_bytes = layout.k_room() + layout.v_room();
  for (int64_t head = 0; head < spec.heads; head += at_once) {
    int64_t count = std::min(at_once, spec.heads - head);
    pool_.parallel_for(count * layout.blocks(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        attention.pack(head + i / layout.blocks(), i % layout.blocks(),
                       packed_keys_.data() + static_cast<size_t>(i) * block_bytes);
      }
    });
    pool_.parallel_for(count * tiles, 4, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t first = i % tiles * kRows;
        attention.run(head + i / tiles, first, static_cast<int>(std::min<int64_t>(kRows, q.dim(0) - first)),
                      packed_keys_.data() + static_cast<size_t>(i / tiles) * layout.head_bytes(),
                      scratch_[static_cast<size_t>(thread)]);
      }
    });
  }
}

}  // namespace liveavatar::cpu
