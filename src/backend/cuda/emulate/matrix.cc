// Matrix instructions of a warp: ldmatrix and mma. Fragments are laid out as in the PTX manual: with g = lane / 4 and
// t = lane % 4, a lane holds rows g and g + 8 of a and d, and column g of b.
#include <algorithm>
#include <bit>
#include <cstring>

#include "backend/cuda/emulate/collective.h"

namespace liveavatar::cuda::emulate {
namespace {

constexpr unsigned kSide = 8, kRowBytes = 16;  // of a matrix that ldmatrix loads

struct LoadMatrices {
  uint32_t* registers;
  unsigned count;
  bool transposed;
  const std::byte* row;
};
using Matrix = uint16_t[kSide][kSide];

// Reads the rows that lanes 8 i to 8 i + 7 name. Counts how often more than one row wants the same four banks.
void read_matrix(Warp& warp, unsigned i, Matrix& rows) {
  Processor& p = *running;
  unsigned rows_at_banks[kSide] = {};
  const std::byte* seen[kSide];
  for (unsigned r = 0; r < kSide; ++r) {
    const Lane& lane = warp.lanes[i * kSide + r];
    const std::byte* row = operands_of<LoadMatrices>(warp, i * kSide + r).row;
    if (!p.in_shared(row)) fail("ldmatrix outside of shared memory", lane.where);
    check_access({row, kRowBytes, AccessKind::kRead, lane.where});
    std::memcpy(rows[r], row, kRowBytes);
    seen[r] = row;
    if (std::find(seen, seen + r, row) == seen + r) ++rows_at_banks[size_t(row) / kRowBytes % kSide];
  }
  p.counts.bank_conflicts += *std::max_element(rows_at_banks, rows_at_banks + kSide) - 1;
}

void run_load_matrices(Warp& warp, uint32_t) {
  const unsigned count = operands_of<LoadMatrices>(warp, 0).count;
  ++running->counts.matrix_loads;
  for (unsigned i = 0; i < count; ++i) {
    Matrix rows;
    read_matrix(warp, i, rows);
    for (unsigned l = 0; l < kLanes; ++l) {
      const LoadMatrices& a = operands_of<LoadMatrices>(warp, l);
      const unsigned g = l / 4, t = l % 4 * 2;
      const uint32_t low = a.transposed ? rows[t][g] : rows[g][t];
      const uint32_t high = a.transposed ? rows[t + 1][g] : rows[g][t + 1];
      a.registers[i] = low | high << 16;
    }
  }
}

inline float bf16_at(uint32_t word, unsigned i) {
  return std::bit_cast<float>(i == 0 ? word << 16 : word & 0xffff0000u);
}

inline float e4m3_at(uint32_t word, unsigned i) {
  const uint32_t byte = word >> 8 * i & 0xff, exponent = byte >> 3 & 15, mantissa = byte & 7;
  float value = float(mantissa) * 0x1p-9f;  // subnormal
  if (exponent == 15 && mantissa == 7) {
    value = std::bit_cast<float>(0x7fc00000u);
  } else if (exponent != 0) {
    value = std::bit_cast<float>((exponent + 120) << 23 | mantissa << 20);
  }
  return (byte & 0x80) != 0 ? -value : value;
}

inline int s8_at(uint32_t word, unsigned i) { return int8_t(word >> 8 * i & 0xff); }

struct Multiply {
  void* d;
  const uint32_t* a;
  const uint32_t* b;
};

// A product of one warp with operands as plain matrices. kPerWord: operands in a register.
template <typename Value, unsigned kPerWord>
struct Product {
  static constexpr unsigned kDepth = 8 * kPerWord;
  alignas(64) Value a[16][kDepth], b[kDepth][8], d[16][8];

  template <typename At>
  void gather(Warp& warp, const At& at) {
    for (unsigned l = 0; l < kLanes; ++l) {
      const Multiply& m = operands_of<Multiply>(warp, l);
      const unsigned g = l / 4, t = l % 4;
      for (unsigned i = 0; i < kPerWord; ++i) {
        const unsigned k = t * kPerWord + i;
        a[g][k] = at(m.a[0], i);
        a[g + 8][k] = at(m.a[1], i);
        a[g][k + kDepth / 2] = at(m.a[2], i);
        a[g + 8][k + kDepth / 2] = at(m.a[3], i);
        b[k][g] = at(m.b[0], i);
        b[k + kDepth / 2][g] = at(m.b[1], i);
      }
    }
  }

  void compute() {
    for (unsigned m = 0; m < 16; ++m) {
      for (unsigned n = 0; n < 8; ++n) d[m][n] = 0;
      for (unsigned k = 0; k < kDepth; ++k) {
        for (unsigned n = 0; n < 8; ++n) d[m][n] += a[m][k] * b[k][n];
      }
    }
  }

  void accumulate(Warp& warp) const {
    for (unsigned l = 0; l < kLanes; ++l) {
      Value* out = static_cast<Value*>(operands_of<Multiply>(warp, l).d);
      const unsigned g = l / 4, t = l % 4 * 2;
      out[0] += d[g][t];
      out[1] += d[g][t + 1];
      out[2] += d[g + 8][t];
      out[3] += d[g + 8][t + 1];
    }
  }
};

template <typename Value, unsigned kPerWord, Value (*kAt)(uint32_t, unsigned)>
void run_multiply(Warp& warp, uint32_t) {
  ++running->counts.products;
  Product<Value, kPerWord> product;
  product.gather(warp, kAt);
  product.compute();
  product.accumulate(warp);
}

RunCollective multiply_of(Operand type) {
  switch (type) {
    case Operand::kBF16:
      return run_multiply<float, 2, bf16_at>;
    case Operand::kE4M3:
      return run_multiply<float, 4, e4m3_at>;
    case Operand::kS8:
      break;
  }
  return run_multiply<int, 4, s8_at>;
}

}  // namespace

void load_matrices(uint32_t* registers, unsigned count, bool transposed, const void* row, Where where) {
  LoadMatrices operands{registers, count, transposed, static_cast<const std::byte*>(row)};
  collect({transposed ? "ldmatrix.trans" : "ldmatrix", run_load_matrices, kAllLanes, &operands}, where);
}

void multiply(Operand type, void* d, const uint32_t* a, const uint32_t* b, Where where) {
  Multiply operands{d, a, b};
  collect({"mma", multiply_of(type), kAllLanes, &operands}, where);
}

}  // namespace liveavatar::cuda::emulate
