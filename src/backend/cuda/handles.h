// Streams, events and pinned memory of a Runtime, destroyed with the object that holds them.
#pragma once

#include <utility>

#include "backend/cuda/runtime.h"

namespace liveavatar::cuda {

// One handle; kDestroy ends it. Movable.
template <int (Runtime::*kDestroy)(void*)>
class Handle {
 public:
  Handle() = default;
  Handle(Runtime& runtime, void* handle) : runtime_(&runtime), handle_(handle) {}
  Handle(Handle&& other) noexcept { swap(other); }
  Handle& operator=(Handle&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Handle() {
    if (handle_ != nullptr) (runtime_->*kDestroy)(handle_);
  }
  void* get() const { return handle_; }

 private:
  void swap(Handle& other) {
    std::swap(runtime_, other.runtime_);
    std::swap(handle_, other.handle_);
  }
  Runtime* runtime_ = nullptr;
  void* handle_ = nullptr;
};

using StreamHandle = Handle<&Runtime::destroy_stream>;
using EventHandle = Handle<&Runtime::destroy_event>;
using PinnedMemory = Handle<&Runtime::release_pinned>;

}  // namespace liveavatar::cuda
