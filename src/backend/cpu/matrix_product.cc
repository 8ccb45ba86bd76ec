// Linear layers on a matrix unit, which multiplies faster than the caches below L2 can feed it. The rows are laid out
// in pieces of 64 bytes once. Then blocks of rows go through groups of panels, a stretch of k at a time: a panel's
// stretch stays in L1 for all rows of the block, the block's stretch and the group's sums stay in L2. A row's sums run
// over stretches cut by k alone, so that they do not depend on the rows beside it.
#include <algorithm>
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/product.h"
#include "core/rounding.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kBlockRows = 288, kGroupPanels = 12, kStretchItems = 256;  // of a 2 MiB L2 and a 48 KiB L1 cache
constexpr int64_t kLeastBytes = 4 << 20, kLeastCodes = 256 << 10;            // for rows that are laid out

// n in so many nearly equal parts, each a multiple of `step` but the last.
int64_t even_part(int64_t n, int64_t count, int64_t step) { return round_up(ceil_div(n, count), step); }

}  // namespace

// Some rows of a product.
struct CpuBackend::MatrixProduct {
  const Product& p;
  bool codes = false;  // both operands in 8 bits
  int64_t items = 0;   // of a row: bf16 pairs, or four codes
  int64_t first = 0, rows = 0;
  int64_t block_rows = 0, group_panels = 0;
  std::byte* laid_out = nullptr;  // block after block: [pieces][rows of the block][64]
  float* scales = nullptr;        // of codes, a row each

  int64_t pieces() const { return ceil_div(items, kPieceItems); }
  int64_t row_bytes() const { return pieces() * kPieceBytes; }
  int64_t item_k() const { return codes ? 4 : 2; }
  int64_t rows_of(int64_t block) const { return std::min(block_rows, rows - block * block_rows); }
  size_t sums_at(int64_t panel) const { return static_cast<size_t>(panel * block_rows * p.shape.columns); }
  std::byte* piece(int64_t block, int64_t i) const {
    return laid_out + block * block_rows * row_bytes() + i * rows_of(block) * kPieceBytes;
  }
};

bool CpuBackend::fits_matrix(const Product& p) const {
  DType weights = p.shape.dtype;
  if (int8_products_ && weights == DType::kI8) return kernels_.matrix_i8 != nullptr;
  return kernels_.matrix && p.x->dtype == DType::kBF16 && weights != DType::kF32;
}

size_t CpuBackend::laid_out_bytes(int64_t elements) const {
  if (kernels_.matrix) return static_cast<size_t>(std::max<int64_t>(kLeastBytes, elements * 2));
  if (!int8_products_) return 0;
  return static_cast<size_t>(std::max(kLeastCodes, elements + elements / 64));  // and the rows' scales
}

ScratchSizes CpuBackend::matrix_scratch(int64_t k) const {
  ScratchSizes s;
  s.want(Piece::kSums, kGroupPanels * kBlockRows * kernels_.columns, sizeof(float));
  s.want(Piece::kPanel, kStretchItems * kernels_.columns, 4);
  s.want(Piece::kOffsets, kGroupPanels * kernels_.columns, sizeof(int));
  if (int8_products_) s.want(Piece::kCodes, round_up(k, 4), 1);
  return s;
}

void CpuBackend::lay_out_row(const MatrixProduct& m, int64_t row, ThreadScratch& scratch) {
  int64_t block = row / m.block_rows, k = m.p.shape.k, bytes = k * static_cast<int64_t>(sizeof(bf16));
  const void* from = m.p.operand(m.first + row, 0);
  if (m.codes) {
    bytes = m.items * 4;
    unsigned char* codes = scratch.at<unsigned char>(Piece::kCodes, bytes);
    kernels_.quantise_row({from, type_of(m.p.x->dtype)}, k, codes, m.scales + row);
    from = codes;
  }
  lay_out_pieces(from, bytes, m.piece(block, 0) + row % m.block_rows * kPieceBytes, m.rows_of(block) * kPieceBytes);
}

// A stretch of a panel as the unit reads it.
const void* CpuBackend::matrix_panel(const MatrixProduct& m, int64_t panel, int64_t first_item, int* offsets,
                                     ThreadScratch& scratch) {
  const PanelShape& s = m.p.shape;
  const char* data = static_cast<const char*>(m.p.panel(panel));
  if (s.dtype == DType::kBF16) return data + first_item * s.columns * 4;
  int64_t k = first_item * m.item_k(), depth = std::min(kStretchItems * m.item_k(), s.k - k);
  const char* codes = data + s.scale_bytes() + s.codes_bytes(k);
  std::byte* unpacked = scratch.at<std::byte>(Piece::kPanel, kStretchItems * s.columns * 4);
  m.codes ? kernels_.quads_i8(codes, depth, unpacked, offsets) : unpack_of(kernels_, s.dtype)(codes, depth, unpacked);
  return unpacked;
}

void CpuBackend::run_block(const MatrixProduct& m, int64_t block, int64_t group, ThreadScratch& scratch) {
  const PanelShape& s = m.p.shape;
  int64_t first = group * m.group_panels, panels = std::min(m.group_panels, s.panels() - first);
  float* all_sums = scratch.at<float>(Piece::kSums, static_cast<int64_t>(m.sums_at(panels)));
  int* offsets = scratch.at<int>(Piece::kOffsets, panels * s.columns);
  std::fill_n(offsets, panels * s.columns, 0);
  MatrixArgs args;
  args.row_bytes = kPieceBytes;
  args.rows = static_cast<int>(m.rows_of(block));
  args.piece_bytes = args.rows * kPieceBytes;
  for (int64_t item = 0; item < m.items; item += kStretchItems) {
    const std::byte* rows = m.piece(block, item / kPieceItems);
    const void* a = rows;
    args.a = &a;
    args.items = std::min(kStretchItems, m.items - item);
    args.more = item > 0;
    int64_t rows_bytes = ceil_div(args.items, kPieceItems) * args.piece_bytes;
    for (int64_t i = 0; i < panels; ++i) {
      args.columns = m.p.wanted_columns(first + i);
      args.b = matrix_panel(m, first + i, item, offsets + i * s.columns, scratch);
      args.sums = all_sums + m.sums_at(i);
      // The same stretch of the next panel, and a share of the next stretch of the rows.
      bool next = s.dtype == DType::kBF16 && i + 1 < panels;
      args.soon[0] = next ? static_cast<const std::byte*>(args.b) + s.panel_bytes() : nullptr;
      args.soon_bytes[0] = next ? args.items * s.columns * 4 : 0;
      args.soon_bytes[1] = item + kStretchItems < m.items ? rows_bytes / panels : 0;
      args.soon[1] = rows + rows_bytes + i * args.soon_bytes[1];
      (m.codes ? kernels_.matrix_i8 : kernels_.matrix)(args);
    }
  }
  for (int64_t i = 0; i < panels; ++i) {
    float* sums = all_sums + m.sums_at(i);
    int64_t row = block * m.block_rows;
    if (m.codes) kernels_.scale_quads(reinterpret_cast<int*>(sums), args.rows, offsets + i * s.columns, m.scales + row);
    store_rows(m.p, {m.first + row, first + i, args.rows}, sums);
  }
}

void CpuBackend::run_pass(const MatrixProduct& m) {
  pool_.parallel_for(m.rows, 8, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t row = begin; row < end; ++row) lay_out_row(m, row, scratch_.of(thread));
  });
  // One group's panels go through all blocks before the next group's, while the L3 cache still has them.
  int64_t blocks = ceil_div(m.rows, m.block_rows), groups = ceil_div(m.p.shape.panels(), m.group_panels);
  pool_.parallel_for(blocks * groups, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t job = begin; job < end; ++job) run_block(m, job % blocks, job / blocks, scratch_.of(thread));
  });
}

void CpuBackend::matrix_product(const Product& p) {
  MatrixProduct m{p};
  m.codes = int8_products_ && p.shape.dtype == DType::kI8;
  m.items = ceil_div(p.shape.k, m.item_k());
  have_packed(laid_out_bytes(0));
  int64_t a_row = m.row_bytes() + (m.codes ? static_cast<int64_t>(sizeof(float)) : 0);
  int64_t fitting = static_cast<int64_t>(packed_.bytes()) / a_row / kMatrixRows * kMatrixRows;
  int64_t pass = even_part(p.rows, ceil_div(p.rows, fitting), kMatrixRows);
  m.block_rows = even_part(pass, ceil_div(pass, kBlockRows), kMatrixRows);
  int64_t blocks = ceil_div(pass, m.block_rows), panels = p.shape.panels();
  int64_t groups = std::max(ceil_div(panels, kGroupPanels), ceil_div(kJobsPerThread * pool_.threads(), blocks));
  m.group_panels = ceil_div(panels, std::min(groups, panels));
  m.laid_out = packed_.data();
  m.scales = reinterpret_cast<float*>(packed_.data() + pass * m.row_bytes());
  for (m.first = 0; m.first < p.rows; m.first += pass) {
    m.rows = std::min(pass, p.rows - m.first);
    run_pass(m);
  }
}

}  // namespace liveavatar::cpu
