// What ops work in beside their operands: one block of memory, that every op lays out anew for itself. Made when models
// reserve, so that ops allocate nothing and the budget knows of every byte.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "backend/cpu/kernels.h"
#include "core/memory.h"

namespace liveavatar::cpu {

enum class Piece : size_t {
  kPointers,       // of a convolution's operands; of a panel's keys
  kMorePointers,   // of staged lines; of a panel's values
  kStage,          // a convolution's input lines
  kRowCopies,      // padded or converted rows
  kMoreRowCopies,  // of values
  kSums,           // of a block of rows through some panels
  kPanel,          // some k of a quantised panel, unpacked
  kCodes,          // int8 products: a row in 8 bits; a panel's keys
  kOffsets,        // and what codes around 128 add to sums
  kMiddle,         // attention in 8 bits: what a head's keys have in common
  kFactors,        // from a block's values to their codes
  kValueSums,      // of a tile of queries' weights with a block's values
  kScores,         // of a tile of queries with a block of keys
  kOutput,         // of some tiles of queries
  kWeights,        // softmax's result, the second product's operand
  kQueries,        // laid out for a matrix unit, or in 8 bits
  kNarrowWeights,  // of a narrow convolution, one for all threads as what follows
  kNarrowBias,     // the last: kPieces counts up to it
};
constexpr size_t kPieces = static_cast<size_t>(Piece::kNarrowBias) + 1;
constexpr size_t kFirstCommon = static_cast<size_t>(Piece::kNarrowWeights);

// Bytes of each piece.
struct ScratchSizes {
  std::array<size_t, kPieces> bytes{};

  void want(Piece piece, int64_t count, size_t item_bytes) {
    size_t& size = bytes[static_cast<size_t>(piece)];
    size = std::max(size, static_cast<size_t>(count) * item_bytes);
  }
  void want(const ScratchSizes& other) {
    for (size_t i = 0; i < kPieces; ++i) bytes[i] = std::max(bytes[i], other.bytes[i]);
  }
};

// At least so many bytes, charged to MemoryCategory::kRuntime; what was in it is lost when it grows.
Status grow(Buffer& buffer, size_t bytes, Budget& budget);

// One thread's pieces, or those for all.
class PieceSet {
 public:
  // The piece, which has room for `count` of them.
  template <typename T>
  T* at(Piece piece, int64_t count) const {
    size_t i = static_cast<size_t>(piece);
    LA_CHECK(static_cast<size_t>(count) * sizeof(T) <= sizes_->bytes[i]);
    return reinterpret_cast<T*>(base_ + (*offsets_)[i]);
  }

 private:
  friend class Scratch;
  std::byte* base_ = nullptr;
  const ScratchSizes* sizes_ = nullptr;
  const std::array<size_t, kPieces>* offsets_ = nullptr;
};

struct ThreadScratch : PieceSet {
  alignas(64) float sums[kRows * kMostColumns];  // of a tile
};

class Scratch {
 public:
  explicit Scratch(int threads);
  // Room for ops of these sizes, charged to MemoryCategory::kRuntime of the budget.
  Status reserve(const ScratchSizes& sizes, Budget& budget);
  // An op begins: what the last one left is lost. Without room enough memory comes from `outside`; throws Failure
  // where there is none.
  void lay_out(const ScratchSizes& sizes, Budget& outside);
  ThreadScratch& of(int thread) { return threads_[static_cast<size_t>(thread)]; }
  const PieceSet& common() const { return common_; }

 private:
  Buffer memory_;
  ScratchSizes sizes_;
  std::array<size_t, kPieces> offsets_{};
  std::vector<ThreadScratch> threads_;
  PieceSet common_;
};

}  // namespace liveavatar::cpu
