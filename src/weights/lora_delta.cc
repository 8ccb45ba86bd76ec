#include "weights/lora_delta.h"

#include <algorithm>
#include <cmath>

namespace liveavatar {
namespace {

// Some consecutive rows of a LoraMatrix. Of a product the right factor is in memory, whole; of the left the rows.
class MatrixRows {
 public:
  MatrixRows(const TensorSource& adapter, const LoraMatrix& matrix) : adapter_(adapter), matrix_(matrix) {}

  Status load(int64_t first, int64_t count) {
    const bool product = !matrix_.right.empty();
    if (product && right_.empty()) {
      right_.resize(static_cast<size_t>(matrix_.inner * matrix_.columns));
      LA_RETURN_IF_ERROR(read_lora_part(adapter_, matrix_.right, {0, matrix_.inner * matrix_.columns}, right_.data()));
    }
    const int64_t width = product ? matrix_.inner : matrix_.columns;
    first_ = first;
    left_.resize(static_cast<size_t>(count * width));
    return read_lora_part(adapter_, matrix_.left, {first * width, count * width}, left_.data());
  }

  // row: [columns]
  void write_row(int64_t at, float* row) const {
    const int64_t columns = matrix_.columns, inner = matrix_.inner;
    if (matrix_.right.empty()) {
      std::copy_n(left_.data() + (at - first_) * columns, columns, row);
      return;
    }
    std::fill_n(row, columns, 0.0f);
    for (int64_t r = 0; r < inner; ++r) {
      const float factor = left_[static_cast<size_t>((at - first_) * inner + r)];
      const float* right = right_.data() + r * columns;
      for (int64_t i = 0; i < columns; ++i) row[i] += factor * right[i];
    }
  }

 private:
  const TensorSource& adapter_;
  const LoraMatrix& matrix_;
  std::vector<float> left_, right_;
  int64_t first_ = 0;
};

// Rows of a term. Rows that are loaded together must lie in one block: of second's rows in a Kronecker product.
class TermRows {
 public:
  TermRows(const TensorSource& adapter, const LoraTerm& term)
      : term_(term), first_(adapter, term.first), second_(adapter, term.second) {
    first_row_.resize(static_cast<size_t>(term.first.columns));
    second_row_.resize(static_cast<size_t>(term.second.columns));
  }

  // The end of the block that row `at` lies in, or `end` if that comes before.
  int64_t block_end(int64_t at, int64_t end) const {
    if (term_.kind != LoraTerm::Kind::kKronecker) return end;
    return std::min(end, (at / term_.second.rows + 1) * term_.second.rows);
  }

  Status load(int64_t at, int64_t count) {
    if (term_.kind == LoraTerm::Kind::kKronecker) {
      LA_RETURN_IF_ERROR(first_.load(at / term_.second.rows, 1));
      return second_.load(at % term_.second.rows, count);
    }
    LA_RETURN_IF_ERROR(first_.load(at, count));
    return term_.kind == LoraTerm::Kind::kElementwise ? second_.load(at, count) : Status();
  }

  void write_row(int64_t at, float* row) {
    if (term_.kind == LoraTerm::Kind::kMatrix) return first_.write_row(at, row);
    if (term_.kind == LoraTerm::Kind::kElementwise) {
      first_.write_row(at, row);
      second_.write_row(at, second_row_.data());
      for (float s : second_row_) *row++ *= s;
      return;
    }
    first_.write_row(at / term_.second.rows, first_row_.data());
    second_.write_row(at % term_.second.rows, second_row_.data());
    for (float f : first_row_) {
      for (float s : second_row_) *row++ = f * s;
    }
  }

 private:
  const LoraTerm& term_;
  MatrixRows first_, second_;
  std::vector<float> first_row_, second_row_;
};

}  // namespace

Status read_lora_part(const TensorSource& adapter, const std::string& name, TensorPart part, float* values) {
  const DType dtype = adapter.tensors().at(name).dtype;
  std::vector<std::byte> raw(static_cast<size_t>(part.count) * dtype_bytes(dtype));
  LA_RETURN_IF_ERROR(adapter.read_part(name, part, raw.data()));
  convert_to_f32(raw.data(), dtype, values, part.count);
  if (std::any_of(values, values + part.count, [](float v) { return !std::isfinite(v); }))
    return corrupt(adapter.where() + ": tensor " + name + " holds a value that is not finite; get the file again");
  return {};
}

Status add_lora_term(const TensorSource& adapter, const LoraTerm& term, int64_t columns, TensorPart part,
                     float* values) {
  if (part.count == 0) return {};
  TermRows rows(adapter, term);
  std::vector<float> delta(static_cast<size_t>(columns));
  const int64_t part_end = part.first + part.count, end_row = (part_end - 1) / columns + 1;
  for (int64_t begin = part.first / columns; begin < end_row;) {
    const int64_t end = rows.block_end(begin, end_row);
    LA_RETURN_IF_ERROR(rows.load(begin, end - begin));
    for (int64_t o = begin; o < end; ++o) {
      rows.write_row(o, delta.data());
      const int64_t low = std::max(part.first, o * columns), high = std::min(part_end, (o + 1) * columns);
      float* to = values + (low - part.first);
      const float* from = delta.data() + (low - o * columns);
      for (int64_t i = 0; i < high - low; ++i) to[i] += term.scale * from[i];
    }
    begin = end;
  }
  return {};
}

}  // namespace liveavatar
