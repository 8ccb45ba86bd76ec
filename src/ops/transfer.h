// Transfers between the host and a device. If the device is the host, nothing is copied.
#pragma once

#include <memory>
#include <span>

#include "backend/backend.h"

namespace liveavatar {

// Host memory for all values of a tensor. The destructor uploads them, in order with the ops.
class Upload {
 public:
  Upload(Backend& backend, const Tensor& to);
  ~Upload();
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;
  float* f32() const { return host_.host<float>(); }
  std::span<float> values() const { return {f32(), static_cast<size_t>(host_.elements())}; }

 private:
  Backend& backend_;
  std::unique_ptr<std::byte[]> staging_;  // null: the device is the host
  Tensor to_, host_;
};

// A tensor's values in host memory, after the ops before it. If the tensor is on another device: a copy with the
// lifetime of this object.
class Download {
 public:
  Download(Backend& backend, const Tensor& from);
  const Tensor& tensor() const { return host_; }
  const float* f32() const { return host_.host<float>(); }
  std::span<const float> values() const { return {f32(), static_cast<size_t>(host_.elements())}; }

 private:
  std::unique_ptr<std::byte[]> staging_;
  Tensor host_;
};

namespace ops {
// x of one backend -> out of another (or the same). Shapes and types are equal.
void transfer(Backend& from, const Tensor& x, Backend& to, const Tensor& out);
}  // namespace ops

}  // namespace liveavatar
