#include "backend/cuda/quantised_rows.h"

#include <algorithm>

#include "core/boundary.h"
#include "core/rounding.h"

namespace liveavatar::cuda {
namespace {

constexpr int64_t kLeastRows = 128;  // those of a block of the product: with fewer at a time it is slow
constexpr int64_t kRowAlignment = 16;

int64_t bytes_with_scale(int64_t row_bytes) { return row_bytes + static_cast<int64_t>(sizeof(float)); }

}  // namespace

Status QuantisedRows::reserve(const LargestOps& largest) {
  if (largest.linear_elements == 0) return {};
  const int64_t scales = largest.linear_elements / 64;  // and padding, of rows of 320 values or more
  const int64_t widest_row = bytes_with_scale(round_up(largest.linear_k, kRowAlignment));
  return grow(static_cast<size_t>(std::max(largest.linear_elements + scales, widest_row)), budget_);
}

QuantisedRows::Part QuantisedRows::take(int64_t rows, int64_t row_bytes) {
  const int64_t row = bytes_with_scale(row_bytes), least = std::min(rows, kLeastRows);
  const Status grown = grow(static_cast<size_t>(least * row), outside_);
  if (!grown.ok()) throw Failure(grown);
  const int64_t fitting = std::min(rows, static_cast<int64_t>(memory_.bytes()) / row);
  return {fitting, memory_.data(), reinterpret_cast<float*>(memory_.data() + fitting * row_bytes)};
}

Status QuantisedRows::grow(size_t bytes, Budget& budget) {
  if (bytes <= memory_.bytes()) return {};
  memory_ = Buffer();  // free the old one first: both together would raise the peak
  LA_ASSIGN_OR_RETURN(memory_, Buffer::allocate(budget, MemoryCategory::kRuntime, bytes));
  return {};
}

}  // namespace liveavatar::cuda
