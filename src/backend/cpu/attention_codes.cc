// Attention in 8 bits (BackendOptions::int8_products).
#include <cmath>

#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/kernel_types.h"

namespace liveavatar::cpu {
namespace {

constexpr int64_t kWeightStride = kKeyBlock + 64;  // no power of two, as kScoreStride

}  // namespace

ScratchSizes CodeAttention::scratch(const Kernels& kernels, const HeadLayout& layout) {
  int64_t rows = tile_rows(kernels, layout);
  ScratchSizes s = Attention::scratch(kernels, layout);
  s.want(Piece::kScores, rows * kScoreStride, sizeof(int));
  s.want(Piece::kWeights, rows * kWeightStride, 1);
  s.want(Piece::kValueSums, rows * layout.width(), sizeof(int));
  return s;
}

void CodeAttention::lay_out(Rows& r, std::byte* target, ThreadScratch& t) const {
  int64_t bytes = layout_.row_bytes();
  for (int i = 0; i < r.count; ++i) {
    std::byte* codes = kernels_.matrix_i8 ? t.at<std::byte>(Piece::kCodes, bytes) : target + i * bytes;
    kernels_.quantise_row({r.queries[i], type_of(q_.dtype)}, layout_.d, reinterpret_cast<unsigned char*>(codes),
                          r.scales + i);
    if (kernels_.matrix_i8) lay_out_pieces(codes, bytes, target + i * kPieceBytes, r.count * kPieceBytes);
  }
  r.laid_out = target;
}

void CodeAttention::attend(Rows& r, int64_t block, const std::byte* packed, float* output, ThreadScratch& t) const {
  int64_t rows = tile_rows(kernels_, layout_);
  int64_t width = layout_.width();
  int64_t keys = layout_.block_keys(block);
  int* scores = t.at<int>(Piece::kScores, rows * kScoreStride);
  int* sums = t.at<int>(Piece::kValueSums, rows * width);
  unsigned char* weights = t.at<unsigned char>(Piece::kWeights, rows * kWeightStride);
  int64_t row_bytes = kernels_.matrix_i8 ? kPieceBytes : layout_.row_bytes();
  MatrixArgs queries{.a = &r.laid_out, .row_bytes = row_bytes, .piece_bytes = r.count * kPieceBytes, .rows = r.count};
  queries.stride = kScoreStride;
  multiply_codes(queries, layout_.d, keys, packed, scores);
  weigh(r, block, packed, scores, weights);
  const void* a = weights;
  MatrixArgs weighing{.a = &a, .row_bytes = kWeightStride, .piece_bytes = kPieceBytes, .rows = r.count};
  weighing.stride = width;
  multiply_codes(weighing, keys, layout_.d, packed + layout_.values_at(), sums);
  const float* scales = reinterpret_cast<const float*>(packed + layout_.value_scales_at());
  for (int i = 0; i < r.count; ++i, sums += width, output += width) {
    if (block == 0) std::fill_n(output, width, 0.0f);
    kernels_.add_codes(sums, width, scales, r.share[i], r.shrink[i], output);
  }
}

// The largest score so far is kept as a power of two. A block's weights are rounded to the block's own largest, and
// take their share of what is summed afterwards.
void CodeAttention::weigh(Rows& r, int64_t block, const std::byte* packed, int* scores, unsigned char* weights) const {
  for (int i = 0; i < r.count; ++i) {
    CodeWeightsArgs args{.sums = scores + i * kScoreStride, .n = layout_.block_keys(block)};
    args.offsets = reinterpret_cast<const int*>(packed + layout_.offsets_at());
    args.scales = reinterpret_cast<const float*>(packed + layout_.scales_at());
    args.factor = spec_.scale * r.scales[i];
    args.bias = bias_of(r, i, block);
    args.codes = weights + i * kWeightStride;
    kernels_.code_weights(args);
    float largest = std::max(r.largest[i], args.largest);
    r.share[i] = std::exp2(args.largest - largest);
    r.shrink[i] = std::exp2(r.largest[i] - largest);  // 0 at first
    r.total[i] = r.total[i] * r.shrink[i] + args.total * r.share[i];
    r.largest[i] = largest;
  }
}

// Rows of k codes times panels of n columns. Without a matrix unit the rows lie whole, row_bytes apart.
void CodeAttention::multiply_codes(MatrixArgs args, int64_t k, int64_t n, const std::byte* panels, int* sums) const {
  args.items = layout_.items(k);
  if (kernels_.matrix_i8) return multiply(kernels_.matrix_i8, args, k, n, panels, sums);
  QuadArgs quads{.a = static_cast<const unsigned char*>(args.a[0]), .stride = args.row_bytes, .quads = args.items};
  quads.rows = args.rows;
  quads.sums_stride = args.stride;
  multiply(kernels_.quad_tile, quads, k, n, panels, sums);
}

}  // namespace liveavatar::cpu
