// What a low-rank adapter adds to a matrix, row by row: products of factors that stay in the adapter's file.
#pragma once

#include <string>
#include <vector>

#include "weights/tensor_source.h"

namespace liveavatar {

// A matrix of an adapter [rows, columns]: a tensor as it is, or a product left right with `inner` columns of left. A
// tensor's dimensions after the first are folded into its columns.
struct LoraMatrix {
  std::string left, right;  // right empty: left is the matrix
  int64_t rows = 0, columns = 0, inner = 0;
};

// scale times a matrix of W's shape: first alone, the products of the elements of first and second (LoHa), or their
// Kronecker product (LoKr).
struct LoraTerm {
  enum class Kind { kMatrix, kElementwise, kKronecker } kind = Kind::kMatrix;
  LoraMatrix first, second;
  float scale = 1;
};

// Reads a part of an adapter tensor as f32; a value that is not finite is an error.
Status read_lora_part(const TensorSource& adapter, const std::string& name, TensorPart part, float* values);

// Adds the part of the term to values (part.count of them); columns: of W.
Status add_lora_term(const TensorSource& adapter, const LoraTerm& term, int64_t columns, TensorPart part,
                     float* values);

}  // namespace liveavatar
