// A matrix unit multiplies faster than the caches below L2 can feed it. The rows are laid out in pieces of 64 bytes
// once. Then blocks of rows go through groups of panels, a stretch of k at a time: a panel's stretch stays in L1 for
// all rows of the block, the block's stretch and the group's sums stay in L2. A row's sums run over stretches cut by k
// alone, so that they do not depend on the rows beside it.
#include "backend/cpu/matrix_product.h"

#include "backend/cpu/kernel_types.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kBlockRows = 288, kGroupPanels = 12, kStretchItems = 256;  // of a 2 MiB L2 and a 48 KiB L1 cache
constexpr int64_t kLeastBytes = 4 << 20;                                     // for rows that are laid out

// n in so many nearly equal parts, each a multiple of `step` but the last.
int64_t even_part(int64_t n, int64_t count, int64_t step) { return round_up(ceil_div(n, count), step); }

}  // namespace

bool MatrixProduct::fits(const CpuContext& context, const Product& p) {
  DType weights = p.shape.dtype;
  if (context.int8_products() && weights == DType::kI8) return context.kernels().matrix_i8 != nullptr;
  return context.kernels().matrix && p.x->dtype == DType::kBF16 && weights != DType::kF32;
}

size_t MatrixProduct::shared_bytes(int64_t elements) {
  return static_cast<size_t>(std::max(kLeastBytes, elements * static_cast<int64_t>(sizeof(bf16))));
}

ScratchSizes MatrixProduct::scratch(const CpuContext& context, int64_t k) {
  int64_t columns = context.kernels().columns;
  ScratchSizes s;
  s.want(Piece::kSums, kGroupPanels * kBlockRows * columns, sizeof(float));
  s.want(Piece::kPanel, kStretchItems * columns, 4);
  s.want(Piece::kOffsets, kGroupPanels * columns, sizeof(int));
  if (context.int8_products()) s.want(Piece::kCodes, round_up(k, 4), 1);
  return s;
}

MatrixProduct::MatrixProduct(CpuContext& context, const Product& p)
    : context_(context),
      kernels_(context.kernels()),
      p_(p),
      codes_(context.int8_products() && p.shape.dtype == DType::kI8),
      items_(ceil_div(p.shape.k, item_k())) {}

void MatrixProduct::pack_row(const Pass& pass, int64_t row, ThreadScratch& scratch) const {
  int64_t block = row / block_rows_;
  int64_t bytes = p_.shape.k * static_cast<int64_t>(sizeof(bf16));
  const void* from = p_.operand(pass.first + row, 0);
  if (codes_) {
    bytes = items_ * 4;
    unsigned char* codes = scratch.at<unsigned char>(Piece::kCodes, bytes);
    kernels_.quantise_row({from, type_of(p_.x->dtype)}, p_.shape.k, codes, scales_ + row);
    from = codes;
  }
  int rows = rows_of(pass, block);
  lay_out_pieces(from, bytes, piece(block, rows, 0) + row % block_rows_ * kPieceBytes, rows * kPieceBytes);
}

// A stretch of a panel as the unit reads it, from `item`.
const void* MatrixProduct::panel_stretch(int64_t panel, int64_t item, int* offsets, ThreadScratch& scratch) const {
  const PanelShape& s = p_.shape;
  const char* data = static_cast<const char*>(p_.panel(panel));
  if (s.dtype == DType::kBF16) return data + item * s.columns * 4;
  int64_t k = item * item_k();
  int64_t depth = std::min(kStretchItems * item_k(), s.k - k);
  const char* codes = data + s.scale_bytes() + s.codes_bytes(k);
  std::byte* unpacked = scratch.at<std::byte>(Piece::kPanel, kStretchItems * s.columns * 4);
  if (codes_) {
    kernels_.quads_i8(codes, depth, unpacked, offsets);
  } else {
    unpack_of(kernels_, s.dtype)(codes, depth, unpacked);
  }
  return unpacked;
}

// Adds a stretch of the inputs, from `item`, to all sums of the block.
void MatrixProduct::multiply_stretch(const Block& block, int64_t item, ThreadScratch& scratch) const {
  const PanelShape& s = p_.shape;
  auto multiply = codes_ ? kernels_.matrix_i8 : kernels_.matrix;
  const std::byte* rows = piece(block.index, block.rows, item / kPieceItems);
  const void* a = rows;
  MatrixArgs args;
  args.a = &a;
  args.rows = block.rows;
  args.row_bytes = kPieceBytes;
  args.piece_bytes = block.rows * kPieceBytes;
  args.items = std::min(kStretchItems, items_ - item);
  args.more = item > 0;
  // Prefetched: the same stretch of the next panel where panels are read in place, and a share of the next rows.
  int64_t rows_bytes = ceil_div(args.items, kPieceItems) * args.piece_bytes;
  int64_t share = item + kStretchItems < items_ ? rows_bytes / block.panels : 0;
  for (int64_t i = 0; i < block.panels; ++i) {
    args.columns = p_.wanted_columns(block.panel + i);
    args.b = panel_stretch(block.panel + i, item, block.offsets + i * s.columns, scratch);
    args.sums = block.sums + sums_at(i);
    bool next = s.dtype == DType::kBF16 && i + 1 < block.panels;
    args.soon[0] = next ? static_cast<const std::byte*>(args.b) + s.panel_bytes() : nullptr;
    args.soon_bytes[0] = next ? args.items * s.columns * 4 : 0;
    args.soon[1] = rows + rows_bytes + i * share;
    args.soon_bytes[1] = share;
    multiply(args);
  }
}

void MatrixProduct::store_block(const Pass& pass, const Block& block) const {
  int64_t row = block.index * block_rows_;  // in the pass
  for (int64_t i = 0; i < block.panels; ++i) {
    float* sums = block.sums + sums_at(i);
    if (codes_) {
      const int* offsets = block.offsets + i * p_.shape.columns;
      kernels_.scale_quads(reinterpret_cast<int*>(sums), block.rows, offsets, scales_ + row);
    }
    store_rows(kernels_, p_, {pass.first + row, block.panel + i, block.rows}, sums);
  }
}

void MatrixProduct::run_block(const Pass& pass, int64_t index, int64_t group, ThreadScratch& scratch) const {
  Block block{.index = index, .rows = rows_of(pass, index), .panel = group * group_panels_};
  block.panels = std::min(group_panels_, p_.shape.panels() - block.panel);
  block.sums = scratch.at<float>(Piece::kSums, sums_at(block.panels));
  block.offsets = scratch.at<int>(Piece::kOffsets, block.panels * p_.shape.columns);
  std::fill_n(block.offsets, block.panels * p_.shape.columns, 0);
  for (int64_t item = 0; item < items_; item += kStretchItems) multiply_stretch(block, item, scratch);
  store_block(pass, block);
}

void MatrixProduct::run_pass(const Pass& pass) const {
  context_.pool().parallel_for(pass.rows, 8, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t row = begin; row < end; ++row) pack_row(pass, row, context_.scratch(thread));
  });
  // One group's panels go through all blocks before the next group's, while the L3 cache still has them.
  int64_t blocks = ceil_div(pass.rows, block_rows_);
  int64_t groups = ceil_div(p_.shape.panels(), group_panels_);
  context_.pool().parallel_for(blocks * groups, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t job = begin; job < end; ++job) run_block(pass, job % blocks, job / blocks, context_.scratch(thread));
  });
}

// Rows into passes and blocks, panels into groups, nearly equal ones each: passes by the memory for packed rows, blocks
// and groups by the caches, and more groups where the threads would otherwise find too few pieces of work.
void MatrixProduct::cut(int64_t memory_bytes) {
  int64_t scale_bytes = codes_ ? static_cast<int64_t>(sizeof(float)) : 0;
  int64_t fitting = memory_bytes / (row_bytes() + scale_bytes) / kMatrixRows * kMatrixRows;
  LA_CHECK(fitting > 0);
  pass_rows_ = even_part(p_.rows, ceil_div(p_.rows, fitting), kMatrixRows);
  block_rows_ = even_part(pass_rows_, ceil_div(pass_rows_, kBlockRows), kMatrixRows);
  int64_t blocks = ceil_div(pass_rows_, block_rows_);
  int64_t panels = p_.shape.panels();
  int64_t for_caches = ceil_div(panels, kGroupPanels);
  int64_t for_threads = ceil_div(kJobsPerThread * context_.threads(), blocks);
  group_panels_ = ceil_div(panels, std::min(std::max(for_caches, for_threads), panels));
}

void MatrixProduct::run() {
  const Buffer& memory = context_.shared(shared_bytes(0));
  cut(static_cast<int64_t>(memory.bytes()));
  packed_ = memory.data();
  scales_ = reinterpret_cast<float*>(packed_ + pass_rows_ * row_bytes());
  for (int64_t first = 0; first < p_.rows; first += pass_rows_)
    run_pass({first, std::min(pass_rows_, p_.rows - first)});
}

}  // namespace liveavatar::cpu
