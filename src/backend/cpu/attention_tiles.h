// The loop of queries over all keys of a head: common to all types of attention.
#pragma once

#include <array>

#include "backend/cpu/attention_keys.h"
#include "backend/cpu/product.h"

namespace liveavatar::cpu {

// Elements between rows of scores: not a power of two, so that rows map to different cache sets.
constexpr int64_t kScoreStride = kKeyBlock + 16;

// One call. run() processes a few queries of one head: for each block of keys, all tiles of queries.
class Attention {
 public:
  static constexpr int64_t kMostTiles = 16;  // tiles that share a block of keys while it is in the L2 cache

  Attention(const Kernels& kernels, const HeadLayout& layout, const Tensor& q, const AttentionSpec& spec,
            const Tensor& out)
      : kernels_(kernels), layout_(layout), q_(q), spec_(spec), out_(out) {}
  virtual ~Attention() = default;

  // Rows of a tile.
  static int64_t tile_rows(const Kernels& kernels, const HeadLayout& layout) {
    return on_unit(kernels, layout) ? kMatrixRows : kRows;
  }
  static ScratchSizes scratch(const Kernels& kernels, const HeadLayout& layout);

  // Queries [first, last) of `head`, at most kMostTiles tiles; packed: the head's blocks.
  void run(int64_t head, int64_t first, int64_t last, const std::byte* packed, ThreadScratch& t) const;

 protected:
  struct Rows {
    int64_t head = 0, first = 0;
    int count = 0;
    const void* queries[kMatrixRows] = {};
    const void* packed_queries = nullptr;  // null: the products read the queries in place
    float scales[kMatrixRows] = {};        // of quantised queries
    float largest[kMatrixRows] = {}, total[kMatrixRows] = {};
    float share[kMatrixRows] = {}, shrink[kMatrixRows] = {};  // factors of a block, and of all blocks before it
  };

  // Packs r's queries at `target`, if necessary.
  virtual void pack_queries(Rows& r, std::byte* target, ThreadScratch& t) const = 0;
  // Adds one block of keys to output [rows][width] and to the softmax state in r.
  virtual void attend(Rows& r, int64_t block, const std::byte* packed, float* output, ThreadScratch& t) const = 0;

  static bool on_unit(const Kernels& kernels, const HeadLayout& layout) {
    return layout.dtype == DType::kBF16 && kernels.matrix;
  }
  // Bytes of a tile's packed queries: 8-bit [rows][row_bytes], for a matrix unit [chunks][rows][64 bytes].
  static int64_t queries_bytes(const Kernels& kernels, const HeadLayout& layout);

  void* at(const Tensor& t, int64_t row, int64_t head) const {
    return static_cast<char*>(t.address()) +
           static_cast<size_t>(row * q_.dim(1) + head * layout_.d) * dtype_bytes(t.dtype);
  }
  // The bias of query i of r at a block's first key, or null.
  const float* bias_of(const Rows& r, int i, int64_t block) const {
    if (spec_.bias.empty()) return nullptr;
    return spec_.bias.host<float>() + (r.head * q_.dim(0) + r.first + i) * layout_.keys + block * kKeyBlock;
  }

  // acc = a times the panels of k inputs and n columns. args has a and the other arguments.
  template <typename Args, typename Sum>
  void multiply(void (*product)(const Args&), Args args, int64_t k, int64_t n, const std::byte* panels,
                Sum* acc) const {
    for (int64_t first = 0; first < n; first += layout_.columns, panels += layout_.panel_bytes(k)) {
      args.b = panels;
      args.acc = acc + first;
      args.columns = static_cast<int>(std::min(layout_.columns, n - first));
      product(args);
    }
  }

  const Kernels& kernels_;
  const HeadLayout& layout_;
  const Tensor& q_;
  const AttentionSpec& spec_;
  const Tensor& out_;

 private:
  void finish(const Rows& r, float* output) const;
};

// Products in f32 or bf16.
class PlainAttention : public Attention {
 public:
  using Attention::Attention;
  static ScratchSizes scratch(const Kernels& kernels, const HeadLayout& layout);

 private:
  void pack_queries(Rows& r, std::byte* target, ThreadScratch& t) const override;
  void attend(Rows& r, int64_t block, const std::byte* packed, float* output, ThreadScratch& t) const override;
  void score(const Rows& r, int64_t block, const std::byte* packed, float* scores) const;
  void weigh(Rows& r, int64_t block, float* scores, float* output, std::byte* weights) const;
  void gather(const Rows& r, int64_t block, const std::byte* values, const std::byte* weights, float* output) const;

  int64_t weight_row_bytes() const;
  bool in_bf16() const { return layout_.dtype == DType::kBF16; }
  bool unit() const { return on_unit(kernels_, layout_); }
};

// Both products in 8 bits. Queries and keys are scaled by their largest value, weights by the largest of a block,
// values by the largest of a block's column.
class Int8Attention : public Attention {
 public:
  using Attention::Attention;
  static ScratchSizes scratch(const Kernels& kernels, const HeadLayout& layout);

 private:
  void pack_queries(Rows& r, std::byte* target, ThreadScratch& t) const override;
  void attend(Rows& r, int64_t block, const std::byte* packed, float* output, ThreadScratch& t) const override;
  void weigh(Rows& r, int64_t block, const std::byte* packed, int* scores, unsigned char* weights) const;
  void multiply_int8(MatrixArgs args, int64_t k, int64_t n, const std::byte* panels, int* acc) const;
};

}  // namespace liveavatar::cpu
