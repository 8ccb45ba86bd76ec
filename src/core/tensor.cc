#include "core/tensor.h"

namespace liveavatar {

std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string((*this)[i]);
  return s + "]";
}

Tensor Tensor::slice(int64_t begin, int64_t count) const {
  LA_CHECK(rank() >= 1 && begin >= 0 && count >= 0 && begin + count <= dim(0));
  Shape s{count};
  for (int i = 1; i < rank(); ++i) s.push_back(dim(i));
  size_t row_bytes = dim(0) == 0 ? 0 : bytes() / static_cast<size_t>(dim(0));
  char* first = empty() ? nullptr : static_cast<char*>(memory_) + static_cast<size_t>(begin) * row_bytes;
  return {first, s, dtype, device};
}

}  // namespace liveavatar
