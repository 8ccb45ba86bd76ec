// In processes of their own, whose address space ends.
#include "core/memory_reserve.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cstdlib>
#include <optional>
#include <vector>

#include "core/json.h"
#include "support/sanitized.h"

namespace liveavatar {
namespace {

nlohmann::json nested() {
  nlohmann::json json;
  for (int i = 0; i < 2000; ++i) json["list"].push_back({{"number", i}, {"text", std::string(40, 'x')}});
  return json;
}

// Maps what is left, down to the last page. -> the largest part of it
void* take_all(size_t& bytes) {
  const rlimit limit{size_t{600} << 20, size_t{600} << 20};
  if (::setrlimit(RLIMIT_AS, &limit) != 0) std::_Exit(3);
  void* first = MAP_FAILED;
  for (size_t piece = size_t{1} << 30; piece >= 4096; piece /= 2) {
    void* at = nullptr;
    while ((at = ::mmap(nullptr, piece, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED) {
      if (first != MAP_FAILED) continue;
      first = at;
      bytes = piece;
    }
  }
  while (std::malloc(64) != nullptr) {
  }
  return first;
}

// A destructor that allocates and has none would end the process.
void use_the_reserve() {
  keep_memory_reserve(OnLack::kRetry);
  std::optional<nlohmann::json> json = nested();
  size_t bytes = 0;
  void* taken = take_all(bytes);
  json.reset();
  if (refill_memory_reserve()) std::_Exit(4);
  try {
    const std::vector<char> large(bytes);
    std::_Exit(5);
  } catch (const std::bad_alloc&) {
  }
  ::munmap(taken, bytes);
  std::_Exit(refill_memory_reserve() ? 0 : 6);
}

TEST(MemoryReserve, IsThereForWhatCannotFail) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's allocator ends the process where memory ends";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(use_the_reserve(), ::testing::ExitedWithCode(0), "");
}

TEST(MemoryReserve, IsFullWhereNoneIsKept) { EXPECT_TRUE(refill_memory_reserve()); }

}  // namespace
}  // namespace liveavatar
