// The update of a matrix by a low-rank adapter: factors are read once, their product is computed row by row.
#pragma once

#include <string>

#include "core/memory.h"
#include "weights/tensor_source.h"

namespace liveavatar {

// A matrix of an adapter [rows, columns]: a tensor as it is, or a product left right with `inner` columns of left. A
// tensor's dimensions after the first are folded into its columns.
struct LoraMatrix {
  std::string left, right;  // right empty: left is the matrix
  int64_t rows = 0, columns = 0, inner = 0;

  bool is_product() const { return !right.empty(); }
  int64_t left_elements() const { return rows * (is_product() ? inner : columns); }
  int64_t right_elements() const { return inner * columns; }
};

// scale times a matrix of W's shape: first alone, the products of the elements of first and second (LoHa), or their
// Kronecker product (LoKr).
struct LoraTerm {
  enum class Kind { kMatrix, kElementwise, kKronecker } kind = Kind::kMatrix;
  LoraMatrix first, second;
  float scale = 1;
};

// Elements of a chunk: tensors are read in chunks of whole rows.
int64_t lora_chunk(const Shape& shape);
// Bytes of such a chunk in the file.
size_t lora_chunk_bytes(const TensorInfo& info);
// The largest chunk of a term's tensors.
size_t lora_chunk_bytes(const TensorSource& adapter, const LoraTerm& term);

// Reads a part of an adapter tensor as f32 through `raw` (lora_chunk_bytes); a value that is not finite is an error.
Status read_lora_part(const TensorSource& adapter, const std::string& name, TensorPart part, std::byte* raw,
                      float* values);

// The factors of one term, in f32, and rows in work.
class LoraFactors {
 public:
  // columns: of W. Over a dry-run Arena only the size. The term outlives it.
  LoraFactors(const LoraTerm& term, int64_t columns, Arena& arena);
  Status read(const TensorSource& adapter, std::byte* raw);
  // Adds the part of the term to values (part.count of them).
  void add(TensorPart part, float* values);

 private:
  struct Matrix {
    const LoraMatrix* shape;
    float *left, *right;
    Matrix(const LoraMatrix& matrix, Arena& arena);
    Status read(const TensorSource& adapter, std::byte* raw);
    void write_row(int64_t at, float* row) const;
  };
  void write_row(int64_t at);

  const LoraTerm* term_;
  int64_t columns_;
  Matrix first_, second_;
  float *row_, *first_row_, *second_row_;  // of W, of first, of second
};

}  // namespace liveavatar
