// Scratch memory of ops: one block of memory, which every op divides into its own buffers. Allocated when models
// reserve, so that ops allocate nothing and the budget has every byte.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "backend/cpu/kernels.h"
#include "core/memory.h"

namespace liveavatar::cpu {

enum class ScratchBuffer : size_t {
  kPointers,            // to a convolution's operands; to a panel's keys
  kMorePointers,        // to staged lines; to a panel's values
  kStage,               // a convolution's input lines
  kRowCopies,           // padded or converted rows
  kMoreRowCopies,       // of values
  kAcc,                 // accumulators of a block of rows times some panels
  kPanel,               // a KC block of a quantised panel, unpacked
  kQuantised,           // int8 products: a quantised row; a panel's keys
  kOffsets,             // int8 products: what the zero point 128 adds to sums
  kMiddle,              // 8-bit attention: the mean of a head's keys
  kFactors,             // from a block's values to their quantised values
  kValueAcc,            // accumulators of a tile of weights times a block's values
  kScores,              // of a tile of queries times a block of keys
  kOutput,              // of several tiles of queries
  kWeights,             // softmax results, operand of the second product
  kQueries,             // packed for a matrix unit, or quantised
  kSmallOutputWeights,  // of a small-output convolution; from here on shared by all threads
  kSmallOutputBias,     // the last one: kScratchBuffers is counted from it
};
constexpr size_t kScratchBuffers = static_cast<size_t>(ScratchBuffer::kSmallOutputBias) + 1;
constexpr size_t kFirstCommon = static_cast<size_t>(ScratchBuffer::kSmallOutputWeights);

// Bytes of each buffer.
struct ScratchSizes {
  std::array<size_t, kScratchBuffers> bytes{};

  void want(ScratchBuffer buffer, int64_t count, size_t item_bytes) {
    size_t& size = bytes[static_cast<size_t>(buffer)];
    size = std::max(size, static_cast<size_t>(count) * item_bytes);
  }
  void want(const ScratchSizes& other) {
    for (size_t i = 0; i < kScratchBuffers; ++i) bytes[i] = std::max(bytes[i], other.bytes[i]);
  }
};

// Grows the buffer to `bytes`, charged to MemoryCategory::kRuntime. Its content is lost if it grows.
Status grow(Buffer& buffer, size_t bytes, Budget& budget);

// The buffers of one thread, or those shared by all.
class ScratchBuffers {
 public:
  // The buffer, which has space for `count` elements.
  template <typename T>
  T* at(ScratchBuffer buffer, int64_t count) const {
    size_t i = static_cast<size_t>(buffer);
    LA_CHECK(static_cast<size_t>(count) * sizeof(T) <= sizes_->bytes[i]);
    return reinterpret_cast<T*>(base_ + (*offsets_)[i]);
  }

 private:
  friend class Scratch;
  std::byte* base_ = nullptr;
  const ScratchSizes* sizes_ = nullptr;
  const std::array<size_t, kScratchBuffers>* offsets_ = nullptr;
};

struct ThreadScratch : ScratchBuffers {
  alignas(64) float acc[kRows * kMostColumns];  // of a tile
};

class Scratch {
 public:
  explicit Scratch(int threads);
  // Allocates memory for ops of these sizes, charged to MemoryCategory::kRuntime of the budget.
  Status reserve(const ScratchSizes& sizes, Budget& budget);
  void release();
  // Divides the memory for a new op. Old content is lost. If it is too small, memory is allocated from `outside`;
  // throws Failure if that fails.
  void allocate(const ScratchSizes& sizes, Budget& outside);
  ThreadScratch& of(int thread) { return threads_[static_cast<size_t>(thread)]; }
  const ScratchBuffers& common() const { return common_; }

 private:
  Buffer memory_;
  ScratchSizes sizes_;
  std::array<size_t, kScratchBuffers> offsets_{};
  std::vector<ThreadScratch> threads_;
  ScratchBuffers common_;
};

}  // namespace liveavatar::cpu
