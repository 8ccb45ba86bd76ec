// Queries on their way through all keys of a head: what attention has in common whatever its products are made of.
#pragma once

#include <array>

#include "backend/cpu/attention_keys.h"
#include "backend/cpu/product.h"

namespace liveavatar::cpu {

// Elements between rows of scores: no power of two, so that they fall to different sets of a cache.
constexpr int64_t kScoreStride = kKeyBlock + 16;

// One call: run() takes a few queries of one head through all keys, tile by tile through each block of them.
class Attention {
 public:
  static constexpr int64_t kMostTiles = 16;  // that go through a block of keys while it is in the L2 cache

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
    const void* laid_out = nullptr;  // as the products want them, where they do not read them in place
    float scales[kMatrixRows] = {};  // of codes
    float largest[kMatrixRows] = {}, total[kMatrixRows] = {};
    float share[kMatrixRows] = {}, shrink[kMatrixRows] = {};  // of a block, and of all before it
  };

  // Lays out r's queries at `target`, if they have to be.
  virtual void lay_out(Rows& r, std::byte* target, ThreadScratch& t) const = 0;
  // output [rows][width] and what r knows of its sums, with one block more.
  virtual void attend(Rows& r, int64_t block, const std::byte* packed, float* output, ThreadScratch& t) const = 0;

  static bool on_unit(const Kernels& kernels, const HeadLayout& layout) {
    return layout.dtype == DType::kBF16 && kernels.matrix;
  }
  // Room for a tile's queries laid out: codes [rows][row_bytes], for a matrix unit [pieces][rows][64 bytes].
  static int64_t queries_bytes(const Kernels& kernels, const HeadLayout& layout);

  void* at(const Tensor& t, int64_t row, int64_t head) const {
    return static_cast<char*>(t.address()) +
           static_cast<size_t>(row * q_.dim(1) + head * layout_.d) * dtype_bytes(t.dtype);
  }
  // Of query i of r at a block's first key, or null.
  const float* bias_of(const Rows& r, int i, int64_t block) const {
    if (spec_.bias.empty()) return nullptr;
    return spec_.bias.host<float>() + (r.head * q_.dim(0) + r.first + i) * layout_.keys + block * kKeyBlock;
  }

  // sums = a times panels of k inputs and n columns, one after the other; a and all else is in args.
  template <typename Args, typename Sum>
  void multiply(void (*product)(const Args&), Args args, int64_t k, int64_t n, const std::byte* panels,
                Sum* sums) const {
    for (int64_t first = 0; first < n; first += layout_.columns, panels += layout_.panel_bytes(k)) {
      args.b = panels;
      args.sums = sums + first;
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
  void lay_out(Rows& r, std::byte* target, ThreadScratch& t) const override;
  void attend(Rows& r, int64_t block, const std::byte* packed, float* output, ThreadScratch& t) const override;
  void score(const Rows& r, int64_t block, const std::byte* packed, float* scores) const;
  void weigh(Rows& r, int64_t block, float* scores, float* output, std::byte* weights) const;
  void gather(const Rows& r, int64_t block, const std::byte* values, const std::byte* weights, float* output) const;

  int64_t weight_row_bytes() const;
  bool in_bf16() const { return layout_.dtype == DType::kBF16; }
  bool unit() const { return on_unit(kernels_, layout_); }
};

// Both products of 8-bit codes: a query and a key rounded to the largest of their values, weights to the largest of a
// block, values to the largest of a block's column.
class CodeAttention : public Attention {
 public:
  using Attention::Attention;
  static ScratchSizes scratch(const Kernels& kernels, const HeadLayout& layout);

 private:
  void lay_out(Rows& r, std::byte* target, ThreadScratch& t) const override;
  void attend(Rows& r, int64_t block, const std::byte* packed, float* output, ThreadScratch& t) const override;
  void weigh(Rows& r, int64_t block, const std::byte* packed, int* scores, unsigned char* weights) const;
  void multiply_codes(MatrixArgs args, int64_t k, int64_t n, const std::byte* panels, int* sums) const;
};

}  // namespace liveavatar::cpu
