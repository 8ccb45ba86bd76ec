// Attention in 8 bits (BackendOptions::int8_products).
#include <cmath>

#include "backend/cpu/attention_tiles.h"

namespace liveavatar::cpu {
namespace {

constexpr int64_t kScoreStride = kKeyBlock + 16,
                  kWeightStride = kKeyBlock + 64;  // no powers of two, as in attention.cc

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

// The largest score so far is kept as a power of two. A block's weights are rounded to the block's own largest, and
// take their share of what is summed afterwards.
void CodeAttention::attend(Rows& r, int64_t block, const std::byte* packed, float* output, ThreadScratch& t) const {
  int64_t rows = tile_rows(kernels_, layout_), width = layout_.width();
  int* scores = t.at<int>(Piece::kScores, rows * kScoreStride);
  int* sums = t.at<int>(Piece::kValueSums, rows * width);
  unsigned char* weights = t.at<unsigned char>(Piece::kWeights, rows * kWeightStride);
  score(r, block, packed, scores);
  float factors[kMatrixRows], shrinks[kMatrixRows];
  for (int i = 0; i < r.count; ++i) {
    CodeWeightsArgs args{.sums = scores + i * kScoreStride, .n = layout_.block_keys(block)};
    args.offsets = reinterpret_cast<const int*>(packed + layout_.offsets_at());
    args.scales = reinterpret_cast<const float*>(packed + layout_.scales_at());
    args.factor = spec_.scale * r.scales[i];
    args.bias = bias_of(r, i, block);
    args.codes = weights + i * kWeightStride;
    kernels_.code_weights(args);
    float largest = block == 0 ? args.largest : std::max(r.largest[i], args.largest);
    factors[i] = std::exp2(args.largest - largest);
    shrinks[i] = block == 0 ? 0.0f : std::exp2(r.largest[i] - largest);
    r.total[i] = r.total[i] * shrinks[i] + args.total * factors[i];
    r.largest[i] = largest;
  }
  gather(r, block, packed + layout_.values_at(), weights, sums);
  const float* scales = reinterpret_cast<const float*>(packed + layout_.value_scales_at());
  for (int i = 0; i < r.count; ++i) {
    float* out = output + i * width;
    if (block == 0) std::fill_n(out, width, 0.0f);
    kernels_.add_codes(sums + i * width, width, scales, factors[i], shrinks[i], out);
  }
}

void CodeAttention::score(const Rows& r, int64_t block, const std::byte* packed, int* scores) const {
  int64_t keys = layout_.block_keys(block);
  size_t panel_bytes = layout_.panel_bytes(layout_.d);
  if (kernels_.matrix_i8) {
    MatrixArgs args{.a = &r.laid_out, .row_bytes = kPieceBytes, .piece_bytes = r.count * kPieceBytes, .rows = r.count};
    args.items = layout_.items(layout_.d);
    args.stride = kScoreStride;
    return multiply(kernels_.matrix_i8, args, keys, panel_bytes, packed, scores);
  }
  QuadArgs args{.a = static_cast<const unsigned char*>(r.laid_out), .stride = layout_.row_bytes()};
  args.quads = layout_.items(layout_.d);
  args.rows = r.count;
  args.sums_stride = kScoreStride;
  multiply(kernels_.quad_tile, args, keys, panel_bytes, packed, scores);
}

// sums = weights v
void CodeAttention::gather(const Rows& r, int64_t block, const std::byte* values, const unsigned char* weights,
                           int* sums) const {
  int64_t keys = layout_.block_keys(block);
  size_t panel_bytes = layout_.panel_bytes(keys);
  if (kernels_.matrix_i8) {
    const void* a = weights;
    MatrixArgs args{.a = &a, .row_bytes = kWeightStride, .piece_bytes = kPieceBytes, .rows = r.count};
    args.items = layout_.items(keys);
    args.stride = layout_.width();
    return multiply(kernels_.matrix_i8, args, layout_.d, panel_bytes, values, sums);
  }
  QuadArgs args{.a = weights, .stride = kWeightStride};
  args.quads = layout_.items(keys);
  args.rows = r.count;
  args.sums_stride = layout_.width();
  multiply(kernels_.quad_tile, args, layout_.d, panel_bytes, values, sums);
}

}  // namespace liveavatar::cpu
