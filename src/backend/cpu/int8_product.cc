#include "backend/cpu/int8_product.h"

#include <algorithm>

#include "backend/cpu/kernel_types.h"
#include "core/rounding.h"

namespace liveavatar::cpu {

namespace {

constexpr int64_t kKc = 1536;               // large, so that accumulators are seldom stored
constexpr int64_t kMc = 64 * kRows;         // large, to amortise the unpacking of the panel
constexpr int64_t kLeastBytes = 256 << 10;  // for rows in 8 bits

}  // namespace

ScratchSizes Int8Product::scratch(const Kernels& kernels) {
  ScratchSizes s;
  s.want(ScratchBuffer::kPanel, kKc * kernels.columns, 1);
  s.want(ScratchBuffer::kAcc, kMc * kernels.columns, sizeof(float));
  s.want(ScratchBuffer::kOffsets, kernels.columns, sizeof(int));
  return s;
}

size_t Int8Product::shared_bytes(int64_t elements) {
  int64_t scales = elements / 64;  // 4 bytes for each row, for rows of 256 elements or more
  return static_cast<size_t>(std::max(kLeastBytes, elements + scales));
}

void Int8Product::quantise_rows(const Int8Rows& rows, int64_t count) const {
  context_.pool().parallel_for(count, kRows, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const Row row{p_.operand(rows.first + i, 0), type_of(p_.x->dtype)};
      kernels_.quantise_row(row, p_.shape.k, rows.quantised + i * rows.stride, rows.scales + i);
    }
  });
}

// An MC block of rows times an int8 micro-panel: as TileProduct::run_quantised, with exact sums.
void Int8Product::run_block(const Tile& t, const Int8Rows& rows, ThreadScratch& scratch) const {
  const PanelShape& s = p_.shape;
  const char* quantised = static_cast<const char*>(p_.panel(t.panel)) + s.scale_bytes();
  std::byte* groups_of_4 = scratch.at<std::byte>(ScratchBuffer::kPanel, kKc * s.columns);
  int* acc = scratch.at<int>(ScratchBuffer::kAcc, t.rows * s.columns);
  int* offsets = scratch.at<int>(ScratchBuffer::kOffsets, s.columns);
  std::fill_n(offsets, s.columns, 0);
  int64_t first = t.first - rows.first;
  Int8TileArgs args;
  args.stride = rows.stride;
  args.b = groups_of_4;
  args.acc_stride = s.columns;
  for (int64_t k = 0; k < s.k; k += kKc) {
    int64_t depth = std::min(kKc, s.k - k);
    kernels_.groups_i8(quantised + s.quantised_bytes(k), depth, groups_of_4, offsets);
    args.groups_of_4 = ceil_div(depth, 4);
    args.accumulate = k > 0;
    for (int row = 0; row < t.rows; row += kRows) {
      args.rows = std::min(kRows, t.rows - row);
      args.a = rows.quantised + (first + row) * rows.stride + k;
      args.acc = acc + row * s.columns;
      kernels_.int8_tile(args);
    }
  }
  kernels_.scale_i8(acc, t.rows, offsets, rows.scales + first);
  store_rows(kernels_, p_, t, reinterpret_cast<const float*>(acc));
}

void Int8Product::run_rows(const Int8Rows& rows, int64_t count) const {
  int64_t blocks = ceil_div(count, kMc);
  context_.pool().parallel_for(p_.shape.panels() * blocks, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t job = begin; job < end; ++job) {
      int64_t panel = job / blocks;
      int64_t first = job % blocks * kMc;
      int block_rows = static_cast<int>(std::min(kMc, count - first));
      run_block({rows.first + first, panel, block_rows}, rows, context_.scratch(thread));
    }
  });
}

// Quantises rows once for all threads and panels, as many at a time as fit into memory.
void Int8Product::run() const {
  const Buffer& memory = context_.shared(shared_bytes(0));
  Int8Rows rows;
  rows.quantised = reinterpret_cast<unsigned char*>(memory.data());
  rows.stride = round_up(p_.shape.k, 4);
  int64_t fitting = static_cast<int64_t>(memory.bytes()) / (rows.stride + static_cast<int64_t>(sizeof(float)));
  LA_CHECK(fitting > 0);
  while (rows.first < p_.rows) {
    int64_t count = std::min(fitting, p_.rows - rows.first);
    rows.scales = reinterpret_cast<float*>(rows.quantised + count * rows.stride);
    quantise_rows(rows, count);
    run_rows(rows, count);
    rows.first += count;
  }
}

}  // namespace liveavatar::cpu
