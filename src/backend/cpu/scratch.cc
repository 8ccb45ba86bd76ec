#include "backend/cpu/scratch.h"

#include "core/boundary.h"
#include "core/rounding.h"

namespace liveavatar::cpu {

namespace {

// Buffers [first, last) in order: their offsets and the end.
size_t place(const ScratchSizes& sizes, size_t first, size_t last, std::array<size_t, kScratchBuffers>& offsets) {
  size_t at = 0;
  for (size_t i = first; i < last; ++i) {
    offsets[i] = at;
    at += round_up(sizes.bytes[i], 64);
  }
  return round_up(at, 4096);  // no page is shared by two threads
}

}  // namespace

Status grow(Buffer& buffer, size_t bytes, Budget& budget) {
  if (bytes <= buffer.bytes()) return {};
  buffer = Buffer();  // free the old one first: both together would raise the peak
  LA_ASSIGN_OR_RETURN(buffer, Buffer::allocate(budget, MemoryCategory::kRuntime, bytes));
  return {};
}

Scratch::Scratch(int threads) : threads_(static_cast<size_t>(threads)) {
  auto point = [&](ScratchBuffers& set) {
    set.sizes_ = &sizes_;
    set.offsets_ = &offsets_;
  };
  for (ThreadScratch& thread : threads_) point(thread);
  point(common_);
}

Status Scratch::reserve(const ScratchSizes& sizes, Budget& budget) {
  std::array<size_t, kScratchBuffers> offsets{};
  size_t bytes =
      place(sizes, kFirstCommon, kScratchBuffers, offsets) + threads_.size() * place(sizes, 0, kFirstCommon, offsets);
  return grow(memory_, bytes, budget);
}

void Scratch::release() {
  memory_ = Buffer();
  sizes_ = {};
}

void Scratch::allocate(const ScratchSizes& sizes, Budget& outside) {
  if (Status grown = reserve(sizes, outside); !grown.ok()) throw Failure(grown);
  sizes_ = sizes;
  common_.base_ = memory_.data();
  std::byte* at = memory_.data() + place(sizes, kFirstCommon, kScratchBuffers, offsets_);
  size_t thread_bytes = place(sizes, 0, kFirstCommon, offsets_);
  for (ThreadScratch& thread : threads_) {
    thread.base_ = at;
    at += thread_bytes;
  }
}

}  // namespace liveavatar::cpu
