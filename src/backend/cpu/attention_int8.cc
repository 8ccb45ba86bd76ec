// 8-bit attention (BackendOptions::int8_products).
#include <cmath>

#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/kernel_types.h"

namespace liveavatar::cpu {
namespace {

constexpr int64_t kWeightStride = kKeyBlock + 64;  // not a power of two; see kScoreStride

}  // namespace

ScratchSizes Int8Attention::scratch(const Kernels& kernels, const HeadLayout& layout) {
  int64_t rows = tile_rows(kernels, layout);
  ScratchSizes s = Attention::scratch(kernels, layout);
  s.want(ScratchBuffer::kScores, rows * kScoreStride, sizeof(int));
  s.want(ScratchBuffer::kWeights, rows * kWeightStride, 1);
  s.want(ScratchBuffer::kValueAcc, rows * layout.width(), sizeof(int));
  return s;
}

void Int8Attention::pack_queries(Rows& r, std::byte* target, ThreadScratch& t) const {
  int64_t bytes = layout_.row_bytes();
  for (int i = 0; i < r.count; ++i) {
    std::byte* quantised = kernels_.matrix_i8 ? t.at<std::byte>(ScratchBuffer::kQuantised, bytes) : target + i * bytes;
    kernels_.quantise_row({r.queries[i], type_of(q_.dtype)}, layout_.d, reinterpret_cast<unsigned char*>(quantised),
                          r.scales + i);
    if (kernels_.matrix_i8) pack_chunks(quantised, bytes, target + i * kChunkBytes, r.count * kChunkBytes);
  }
  r.packed_queries = target;
}

void Int8Attention::attend(Rows& r, int64_t block, const std::byte* packed, float* output, ThreadScratch& t) const {
  int64_t rows = tile_rows(kernels_, layout_);
  int64_t width = layout_.width();
  int64_t keys = layout_.block_keys(block);
  int* scores = t.at<int>(ScratchBuffer::kScores, rows * kScoreStride);
  int* acc = t.at<int>(ScratchBuffer::kValueAcc, rows * width);
  unsigned char* weights = t.at<unsigned char>(ScratchBuffer::kWeights, rows * kWeightStride);
  int64_t row_bytes = kernels_.matrix_i8 ? kChunkBytes : layout_.row_bytes();
  MatrixArgs queries{
      .a = &r.packed_queries, .row_bytes = row_bytes, .chunk_bytes = r.count * kChunkBytes, .rows = r.count};
  queries.stride = kScoreStride;
  multiply_int8(queries, layout_.d, keys, packed, scores);
  weigh(r, block, packed, scores, weights);
  const void* a = weights;
  MatrixArgs weighing{.a = &a, .row_bytes = kWeightStride, .chunk_bytes = kChunkBytes, .rows = r.count};
  weighing.stride = width;
  multiply_int8(weighing, keys, layout_.d, packed + layout_.values_at(), acc);
  const float* scales = reinterpret_cast<const float*>(packed + layout_.value_scales_at());
  for (int i = 0; i < r.count; ++i, acc += width, output += width) {
    if (block == 0) std::fill_n(output, width, 0.0f);
    kernels_.add_i8(acc, width, scales, r.share[i], r.shrink[i], output);
  }
}

// The largest score so far is kept in base 2. A block's weights are quantised relative to the block's own largest
// score, and are scaled when they are accumulated.
void Int8Attention::weigh(Rows& r, int64_t block, const std::byte* packed, int* scores, unsigned char* weights) const {
  for (int i = 0; i < r.count; ++i) {
    SoftmaxWeightsArgs args{.acc = scores + i * kScoreStride, .n = layout_.block_keys(block)};
    args.offsets = reinterpret_cast<const int*>(packed + layout_.offsets_at());
    args.scales = reinterpret_cast<const float*>(packed + layout_.scales_at());
    args.factor = spec_.scale * r.scales[i];
    args.bias = bias_of(r, i, block);
    args.quantised = weights + i * kWeightStride;
    kernels_.softmax_weights_i8(args);
    float largest = std::max(r.largest[i], args.largest);
    r.share[i] = std::exp2(args.largest - largest);
    r.shrink[i] = std::exp2(r.largest[i] - largest);  // 0 at first
    r.total[i] = r.total[i] * r.shrink[i] + args.total * r.share[i];
    r.largest[i] = largest;
  }
}

// Quantised rows of length k times panels of n columns. Without a matrix unit the rows are contiguous, row_bytes apart.
void Int8Attention::multiply_int8(MatrixArgs args, int64_t k, int64_t n, const std::byte* panels, int* acc) const {
  args.items = layout_.items(k);
  if (kernels_.matrix_i8) return multiply(kernels_.matrix_i8, args, k, n, panels, acc);
  Int8TileArgs groups_of_4{
      .a = static_cast<const unsigned char*>(args.a[0]), .stride = args.row_bytes, .groups_of_4 = args.items};
  groups_of_4.rows = args.rows;
  groups_of_4.acc_stride = args.stride;
  multiply(kernels_.int8_tile, groups_of_4, k, n, panels, acc);
}

}  // namespace liveavatar::cpu
