// Memory of this process that no budget sees: that of libraries which are loaded when they are needed.
#pragma once

#include <atomic>
#include <cstddef>

namespace liveavatar {

inline std::atomic<size_t>& loaded_libraries() {
  static std::atomic<size_t> bytes{0};
  return bytes;
}

// Any thread; once for a library.
inline void add_loaded_library(size_t bytes) { loaded_libraries() += bytes; }

// Of those that were loaded so far. An engine charges it to MemoryCategory::kRuntime when it is loaded.
inline size_t loaded_library_bytes() { return loaded_libraries(); }

}  // namespace liveavatar
