// A matrix product in BLIS blocks (MC, NC, KC), since a matrix unit is faster than the caches below L2. Rows are packed
// once in chunks of 64 bytes. Then MC blocks of rows are multiplied with NC blocks of micro-panels, one KC block of k
// at a time. A panel's KC block stays in L1 for all rows of the MC block; the rows' KC block and the accumulators stay
// in L2. KC blocks depend on k alone, so a row's sums do not depend on the rows beside it.
#include "backend/cpu/matrix_product.h"

#include "backend/cpu/kernel_types.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kMc = 288, kNcPanels = 12, kKcItems = 256;  // for a 2 MiB L2 and a 48 KiB L1 cache
constexpr int64_t kLeastBytes = 4 << 20;                      // for packed rows

// The size of `count` nearly equal parts of n, rounded up to a multiple of `step`.
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
  s.want(ScratchBuffer::kAcc, kNcPanels * kMc * columns, sizeof(float));
  s.want(ScratchBuffer::kPanel, kKcItems * columns, 4);
  s.want(ScratchBuffer::kOffsets, kNcPanels * columns, sizeof(int));
  if (context.int8_products()) s.want(ScratchBuffer::kQuantised, round_up(k, 4), 1);
  return s;
}

MatrixProduct::MatrixProduct(CpuContext& context, const Product& p)
    : context_(context),
      kernels_(context.kernels()),
      p_(p),
      int8_(context.int8_products() && p.shape.dtype == DType::kI8),
      items_(ceil_div(p.shape.k, item_k())) {}

void MatrixProduct::pack_row(const Pass& pass, int64_t row, ThreadScratch& scratch) const {
  int64_t block = row / mc_;
  int64_t bytes = p_.shape.k * static_cast<int64_t>(sizeof(bf16));
  const void* from = p_.operand(pass.first + row, 0);
  if (int8_) {
    bytes = items_ * 4;
    unsigned char* quantised = scratch.at<unsigned char>(ScratchBuffer::kQuantised, bytes);
    kernels_.quantise_row({from, type_of(p_.x->dtype)}, p_.shape.k, quantised, scales_ + row);
    from = quantised;
  }
  int rows = rows_of(pass, block);
  pack_chunks(from, bytes, chunk(block, rows, 0) + row % mc_ * kChunkBytes, rows * kChunkBytes);
}

// A panel's KC block from `item`, in the form that the unit reads.
const void* MatrixProduct::panel_kc_block(int64_t panel, int64_t item, int* offsets, ThreadScratch& scratch) const {
  const PanelShape& s = p_.shape;
  const char* data = static_cast<const char*>(p_.panel(panel));
  if (s.dtype == DType::kBF16) return data + item * s.columns * 4;
  int64_t k = item * item_k();
  int64_t depth = std::min(kKcItems * item_k(), s.k - k);
  const char* quantised = data + s.scale_bytes() + s.quantised_bytes(k);
  std::byte* unpacked = scratch.at<std::byte>(ScratchBuffer::kPanel, kKcItems * s.columns * 4);
  if (int8_) {
    kernels_.groups_i8(quantised, depth, unpacked, offsets);
  } else {
    unpack_of(kernels_, s.dtype)(quantised, depth, unpacked);
  }
  return unpacked;
}

// Adds the KC block from `item` to all accumulators of the block.
void MatrixProduct::multiply_kc_block(const Block& block, int64_t item, ThreadScratch& scratch) const {
  const PanelShape& s = p_.shape;
  auto multiply = int8_ ? kernels_.matrix_i8 : kernels_.matrix;
  const std::byte* rows = chunk(block.index, block.rows, item / kChunkItems);
  const void* a = rows;
  MatrixArgs args;
  args.a = &a;
  args.rows = block.rows;
  args.row_bytes = kChunkBytes;
  args.chunk_bytes = block.rows * kChunkBytes;
  args.items = std::min(kKcItems, items_ - item);
  args.accumulate = item > 0;
  // Prefetches the same KC block of the next panel if panels are read in place, and a part of the rows' next KC block.
  int64_t rows_bytes = ceil_div(args.items, kChunkItems) * args.chunk_bytes;
  int64_t share = item + kKcItems < items_ ? rows_bytes / block.panels : 0;
  for (int64_t i = 0; i < block.panels; ++i) {
    args.columns = p_.wanted_columns(block.panel + i);
    args.b = panel_kc_block(block.panel + i, item, block.offsets + i * s.columns, scratch);
    args.acc = block.acc + acc_at(i);
    bool next = s.dtype == DType::kBF16 && i + 1 < block.panels;
    args.prefetch[0] = next ? static_cast<const std::byte*>(args.b) + s.panel_bytes() : nullptr;
    args.prefetch_bytes[0] = next ? args.items * s.columns * 4 : 0;
    args.prefetch[1] = rows + rows_bytes + i * share;
    args.prefetch_bytes[1] = share;
    multiply(args);
  }
}

void MatrixProduct::store_block(const Pass& pass, const Block& block) const {
  int64_t row = block.index * mc_;  // in the pass
  for (int64_t i = 0; i < block.panels; ++i) {
    float* acc = block.acc + acc_at(i);
    if (int8_) {
      const int* offsets = block.offsets + i * p_.shape.columns;
      kernels_.scale_i8(reinterpret_cast<int*>(acc), block.rows, offsets, scales_ + row);
    }
    store_rows(kernels_, p_, {pass.first + row, block.panel + i, block.rows}, acc);
  }
}

void MatrixProduct::run_block(const Pass& pass, int64_t index, int64_t group, ThreadScratch& scratch) const {
  Block block{.index = index, .rows = rows_of(pass, index), .panel = group * nc_panels_};
  block.panels = std::min(nc_panels_, p_.shape.panels() - block.panel);
  block.acc = scratch.at<float>(ScratchBuffer::kAcc, acc_at(block.panels));
  block.offsets = scratch.at<int>(ScratchBuffer::kOffsets, block.panels * p_.shape.columns);
  std::fill_n(block.offsets, block.panels * p_.shape.columns, 0);
  for (int64_t item = 0; item < items_; item += kKcItems) multiply_kc_block(block, item, scratch);
  store_block(pass, block);
}

void MatrixProduct::run_pass(const Pass& pass) const {
  context_.pool().parallel_for(pass.rows, 8, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t row = begin; row < end; ++row) pack_row(pass, row, context_.scratch(thread));
  });
  // All row blocks are multiplied with one NC block of panels before the next, while it is in the L3 cache.
  int64_t blocks = ceil_div(pass.rows, mc_);
  int64_t groups = ceil_div(p_.shape.panels(), nc_panels_);
  context_.pool().parallel_for(blocks * groups, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t job = begin; job < end; ++job) run_block(pass, job % blocks, job / blocks, context_.scratch(thread));
  });
}

// Divides rows into passes and MC blocks, and panels into NC blocks, each of nearly equal size. The memory for packed
// rows limits a pass, the caches limit the blocks. More NC blocks are made if the threads would have too few jobs.
void MatrixProduct::cut(int64_t memory_bytes) {
  int64_t scale_bytes = int8_ ? static_cast<int64_t>(sizeof(float)) : 0;
  int64_t fitting = memory_bytes / (row_bytes() + scale_bytes) / kMatrixRows * kMatrixRows;
  LA_CHECK(fitting > 0);
  pass_rows_ = even_part(p_.rows, ceil_div(p_.rows, fitting), kMatrixRows);
  mc_ = even_part(pass_rows_, ceil_div(pass_rows_, kMc), kMatrixRows);
  int64_t blocks = ceil_div(pass_rows_, mc_);
  int64_t panels = p_.shape.panels();
  int64_t for_caches = ceil_div(panels, kNcPanels);
  int64_t for_threads = ceil_div(kJobsPerThread * context_.threads(), blocks);
  nc_panels_ = ceil_div(panels, std::min(std::max(for_caches, for_threads), panels));
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
