#include "weights/lora_delta.h"

#include <algorithm>
#include <cmath>

namespace liveavatar {
namespace {

constexpr int64_t kPieceElements = 1 << 16;

float* floats(Arena& arena, int64_t count) {
  return static_cast<float*>(arena.allocate(static_cast<size_t>(count) * sizeof(float)));
}

}  // namespace

int64_t lora_chunk(const Shape& shape) {
  const int64_t elements = shape.elements(), row = shape.rank() == 0 || shape[0] == 0 ? 1 : elements / shape[0];
  return std::min(elements, std::max<int64_t>(1, kPieceElements / std::max<int64_t>(row, 1)) * row);
}

size_t lora_chunk_bytes(const TensorInfo& info) {
  return static_cast<size_t>(lora_chunk(info.shape)) * dtype_bytes(info.dtype);
}

size_t lora_chunk_bytes(const TensorSource& adapter, const LoraTerm& term) {
  size_t bytes = 0;
  for (const std::string& name : {term.first.left, term.first.right, term.second.left, term.second.right}) {
    if (!name.empty()) bytes = std::max(bytes, lora_chunk_bytes(adapter.tensors().at(name)));
  }
  return bytes;
}

Status read_lora_part(const TensorSource& adapter, const std::string& name, TensorPart part, std::byte* raw,
                      float* values) {
  const TensorInfo& info = adapter.tensors().at(name);
  const int64_t piece = lora_chunk(info.shape);
  for (int64_t at = 0; at < part.count; at += piece) {
    const int64_t count = std::min(piece, part.count - at);
    LA_RETURN_IF_ERROR(adapter.read_part(name, {part.first + at, count}, raw));
    convert_to_f32(raw, info.dtype, values + at, count);
  }
  if (std::any_of(values, values + part.count, [](float v) { return !std::isfinite(v); }))
    return corrupt(adapter.where() + ": tensor " + name + " holds a value that is not finite; get the file again");
  return {};
}

LoraFactors::Matrix::Matrix(const LoraMatrix& matrix, Arena& arena)
    : shape(&matrix), left(floats(arena, matrix.left_elements())), right(floats(arena, matrix.right_elements())) {}

Status LoraFactors::Matrix::read(const TensorSource& adapter, std::byte* raw) {
  if (shape->left.empty()) return {};
  LA_RETURN_IF_ERROR(read_lora_part(adapter, shape->left, {0, shape->left_elements()}, raw, left));
  if (!shape->is_product()) return {};
  return read_lora_part(adapter, shape->right, {0, shape->right_elements()}, raw, right);
}

// row: [columns]
void LoraFactors::Matrix::write_row(int64_t at, float* row) const {
  const int64_t columns = shape->columns, inner = shape->inner;
  if (!shape->is_product()) {
    std::copy_n(left + at * columns, columns, row);
    return;
  }
  std::fill_n(row, columns, 0.0f);
  for (int64_t r = 0; r < inner; ++r) {
    const float factor = left[at * inner + r];
    const float* of_right = right + r * columns;
    for (int64_t i = 0; i < columns; ++i) row[i] += factor * of_right[i];
  }
}

LoraFactors::LoraFactors(const LoraTerm& term, int64_t columns, Arena& arena)
    : term_(&term),
      columns_(columns),
      first_(term.first, arena),
      second_(term.second, arena),
      row_(floats(arena, columns)),
      first_row_(floats(arena, term.first.columns)),
      second_row_(floats(arena, term.second.columns)) {}

Status LoraFactors::read(const TensorSource& adapter, std::byte* raw) {
  LA_RETURN_IF_ERROR(first_.read(adapter, raw));
  return second_.read(adapter, raw);
}

void LoraFactors::write_row(int64_t at) {
  const int64_t first_columns = term_->first.columns, second_columns = term_->second.columns;
  if (term_->kind == LoraTerm::Kind::kMatrix) return first_.write_row(at, row_);
  if (term_->kind == LoraTerm::Kind::kElementwise) {
    first_.write_row(at, row_);
    second_.write_row(at, second_row_);
    for (int64_t i = 0; i < second_columns; ++i) row_[i] *= second_row_[i];
    return;
  }
  first_.write_row(at / term_->second.rows, first_row_);
  second_.write_row(at % term_->second.rows, second_row_);
  float* row = row_;
  for (int64_t f = 0; f < first_columns; ++f) {
    for (int64_t s = 0; s < second_columns; ++s) *row++ = first_row_[f] * second_row_[s];
  }
}

void LoraFactors::add(TensorPart part, float* values) {
  const int64_t part_end = part.first + part.count;
  for (int64_t o = part.first / columns_; o * columns_ < part_end; ++o) {
    write_row(o);
    const int64_t low = std::max(part.first, o * columns_), high = std::min(part_end, (o + 1) * columns_);
    float* to = values + (low - part.first);
    const float* from = row_ + (low - o * columns_);
    for (int64_t i = 0; i < high - low; ++i) to[i] += term_->scale * from[i];
  }
}

}  // namespace liveavatar
