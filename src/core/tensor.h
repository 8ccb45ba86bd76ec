// Tensor: a view of contiguous row-major memory of one device. Buffer and Arena own the memory (core/memory.h).
#pragma once

#include <array>
#include <initializer_list>
#include <string>

#include "core/device.h"
#include "core/dtype.h"
#include "core/status.h"

namespace liveavatar {

// Up to six dimensions, outermost first.
class Shape {
 public:
  static constexpr int kMaxRank = 6;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    LA_CHECK(dims.size() <= kMaxRank);
    for (int64_t d : dims) dims_[static_cast<size_t>(rank_++)] = d;
  }
  int rank() const { return rank_; }
  int64_t operator[](int i) const {
    LA_CHECK(i >= 0 && i < rank_);
    return dims_[static_cast<size_t>(i)];
  }
  void push_back(int64_t d) {
    LA_CHECK(rank_ < kMaxRank);
    dims_[static_cast<size_t>(rank_++)] = d;
  }
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[static_cast<size_t>(i)];
    return n;
  }
  bool operator==(const Shape& other) const = default;
  std::string str() const;  // "[3, 64, 64]"

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

struct Tensor {
  Shape shape;
  DType dtype = DType::kF32;
  Device device;

  Tensor() = default;
  Tensor(void* memory, Shape s, DType t, Device d = {}) : shape(s), dtype(t), device(d), memory_(memory) {}

  bool empty() const { return memory_ == nullptr; }  // absent optional operand
  int64_t dim(int i) const { return shape[i]; }
  int rank() const { return shape.rank(); }
  int64_t elements() const { return shape.elements(); }
  size_t bytes() const { return static_cast<size_t>(elements()) * dtype_bytes(dtype); }

  // The values, for access by the host. Asserts that the memory is host memory.
  template <typename T>
  T* host() const {
    LA_CHECK(device.is_host() && dtype == DTypeOf<T>::value);
    return static_cast<T*>(memory_);
  }
  // For the device's own backend, and to compare addresses. Other code must not dereference it.
  void* address() const { return memory_; }

  // Rows [begin, begin + count) of the outermost dimension, in the same memory.
  Tensor slice(int64_t begin, int64_t count) const;
  // The same memory with another shape of equally many elements.
  Tensor reshape(Shape s) const {
    LA_CHECK(s.elements() == elements());
    return {memory_, s, dtype, device};
  }
  // The first elements of the same memory as a tensor of another shape, which has not more elements.
  Tensor front(Shape s) const {
    LA_CHECK(s.elements() <= elements());
    return {memory_, s, dtype, device};
  }
  // All leading dimensions merged into one: [rows, last].
  Tensor rows() const { return reshape({elements() / shape[rank() - 1], shape[rank() - 1]}); }

 private:
  void* memory_ = nullptr;
};

}  // namespace liveavatar
