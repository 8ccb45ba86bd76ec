#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/boundary.h"
#include "core/folder.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/pending_file.h"
#include "core/threads.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

TEST(DType, Bf16RoundsToNearestEven) {
  EXPECT_EQ(to_f32(to_bf16(1.0f)), 1.0f);
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f808000u)).bits, 0x3f80);  // half way, down to even
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f818000u)).bits, 0x3f82);  // half way, up to even
  EXPECT_TRUE(std::isnan(to_f32(to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isinf(to_f32(to_bf16(std::numeric_limits<float>::infinity()))));
}

TEST(DType, EveryF16RoundTripsThroughF32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    float wide = to_f32(f16{static_cast<uint16_t>(bits)});
    if (std::isnan(wide)) continue;
    EXPECT_EQ(to_f16(wide).bits, bits);
  }
  EXPECT_EQ(to_f16(65520.0f).bits, 0x7c00);  // rounds to infinity
  EXPECT_EQ(to_f16(1e-9f).bits, 0);
}

TEST(Budget, RefusesWhatDoesNotFitAndNamesTheCategory) {
  Budget budget(1 << 20);
  auto first = Buffer::allocate(budget, MemoryCategory::kWeights, 600'000);
  ASSERT_TRUE(first.ok());
  auto second = Buffer::allocate(budget, MemoryCategory::kKvCache, 600'000);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), ErrorCode::kOutOfMemory);
  EXPECT_NE(second.status().message().find("kv_cache"), std::string::npos);
  *first = Buffer();
  EXPECT_TRUE(Buffer::allocate(budget, MemoryCategory::kKvCache, 600'000).ok());
}

TEST(Budget, ReleasesBytesWithTheBufferAndRemembersThePeak) {
  Budget budget;
  {
    auto buffer = Buffer::allocate(budget, MemoryCategory::kVae, 5000);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(budget.used_bytes(MemoryCategory::kVae), 8192u);
  }
  EXPECT_EQ(budget.used_bytes(), 0u);
  EXPECT_EQ(budget.peak_bytes(), 8192u);
}

TEST(Arena, MeasuredSizeIsTheSizeItTakes) {
  auto lay_out = [](Arena& arena) {
    arena.tensor({3, 5}, DType::kF32);
    arena.tensor({100}, DType::kBF16);
    return arena.tensor({7}, DType::kBF16);
  };
  Arena measure;
  EXPECT_EQ(lay_out(measure).address(), nullptr);
  Budget budget;
  auto arena = Arena::allocate(budget, MemoryCategory::kActivations, measure.used_bytes());
  ASSERT_TRUE(arena.ok());
  Tensor last = lay_out(*arena);
  ASSERT_NE(last.address(), nullptr);
  EXPECT_EQ(arena->used_bytes(), measure.used_bytes());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(last.address()) % 64, 0u);
}

TEST(Tensor, SlicesRowsOfTheOutermostDimension) {
  float values[12];
  Tensor t(values, {3, 2, 2}, DType::kF32);
  EXPECT_EQ(t.slice(1, 2).address(), values + 4);
  EXPECT_EQ(t.slice(1, 2).shape, Shape({2, 2, 2}));
  EXPECT_EQ(t.rows().shape, Shape({6, 2}));
  EXPECT_EQ(t.shape.str(), "[3, 2, 2]");
}

TEST(ThreadPool, RunsEveryIndexOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t n : {0, 1, 7, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
      pool.parallel_for(n, 3, [&](int64_t begin, int64_t end, int thread) {
        EXPECT_LT(thread, threads);
        for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
      });
      for (auto& count : seen) EXPECT_EQ(count, 1);
    }
  }
}

TEST(ThreadPool, RethrowsAnExceptionAndStaysUsable) {
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int64_t bad : {0, 500, 999}) {
      auto body = [&](int64_t begin, int64_t end, int) {
        if (begin <= bad && bad < end) throw std::bad_alloc();
      };
      EXPECT_THROW(pool.parallel_for(1000, 3, body), std::bad_alloc);
    }
    std::atomic<int64_t> sum{0};
    pool.parallel_for(100, 3, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
    EXPECT_EQ(sum, 100);
  }
}

TEST(Boundary, ExceptionsBecomeStatus) {
  EXPECT_EQ(contained("x", []() -> Status { throw std::bad_alloc(); }).code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(contained("x", []() -> Status { throw Failure(not_found("y")); }).message(), "y");
  EXPECT_EQ(contained("x", []() -> Expected<int> { throw std::runtime_error("y"); }).status().message(), "x: y");
  EXPECT_FALSE(contained("x", []() -> Status { throw 5; }).ok());
  EXPECT_EQ(*contained("x", []() -> Expected<int> { return 5; }), 5);
}

TEST(Json, WritesStringsOfAnyBytes) {
  nlohmann::ordered_json json;
  json["path"] = "/tmp/caf\xe8/\xff";
  std::string text = json_text(json);
  EXPECT_TRUE(nlohmann::json::accept(text)) << text;
}

TEST(Json, NamesThePlaceOfASyntaxError) {
  EXPECT_EQ((*parse_json(R"({"a": 1})", "x"))["a"], 1);
  EXPECT_EQ((*parse_json<nlohmann::ordered_json>("[1, 2]", "x"))[1], 2);
  auto error = [](const std::string& text, JsonKeys keys = JsonKeys::kAny) {
    return parse_json(text, "x.json", keys).status().message();
  };
  EXPECT_EQ(error("{\n\"a\": ?}"), "x.json: not JSON at line 2, byte 7; download or copy the file again");
  EXPECT_EQ(error(""), "x.json: not JSON at line 1, byte 0; download or copy the file again");
  EXPECT_EQ(error(R"({"a": 1, "a": 2})"), "");
  EXPECT_NE(error(R"([{"a": 1, "a": 2}])", JsonKeys::kOnce).find("x.json: names a twice"), std::string::npos);
  EXPECT_EQ(error(R"([{"a": 1}, {"a": 2}])", JsonKeys::kOnce), "");
  EXPECT_NE(error("[1e999]").find("not JSON at line 1"), std::string::npos);  // beyond what a number holds
  const std::string deep(100'000, '[');
  EXPECT_NE(error(deep + std::string(deep.size(), ']')).find("nested deeper than 64"), std::string::npos);
}

TEST(PendingFile, AppearsAtCommitAndHasOneWriter) {
  const TempDir temporary;
  const std::string dir = temporary.string(), path = dir + "/x";
  {
    auto first = PendingFile::open(path, PendingFile::Busy::kRefuse);
    ASSERT_TRUE(first.ok());
    EXPECT_EQ(remove_abandoned(dir), 0);
    EXPECT_EQ(PendingFile::open(path, PendingFile::Busy::kRefuse).status().code(), ErrorCode::kIo);
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_TRUE(first->commit().ok());
  }
  EXPECT_TRUE(std::filesystem::exists(path));
  { ASSERT_TRUE(PendingFile::open(path, PendingFile::Busy::kRefuse).ok()); }  // given up
  std::ofstream(dir + "/y" + PendingFile::kEnding) << "of a killed job";
  std::ofstream(dir + "/y" + PendingFile::kEnding + ".123.456") << "of one where nothing could be locked";
  std::ofstream(dir + "/y" + PendingFile::kEnding + ".txt") << "somebody's";
  EXPECT_EQ(remove_abandoned(dir), 2);
  std::filesystem::remove(dir + "/y" + PendingFile::kEnding + ".txt");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir), std::filesystem::directory_iterator()), 1);
}

TEST(PendingFile, RefusesAPipeAtItsPathWithoutBlocking) {
  const TempDir temporary;
  const std::string dir = temporary.string(), path = dir + "/x";
  const std::string partial = path + PendingFile::kEnding;
  ASSERT_EQ(::mkfifo(partial.c_str(), 0600), 0);
  for (bool with_reader : {false, true}) {
    int reader = with_reader ? ::open(partial.c_str(), O_RDONLY | O_NONBLOCK) : -1;
    Status status = PendingFile::open(path, PendingFile::Busy::kRefuse).status();
    EXPECT_EQ(status.message(), partial + ": is in the way and is no regular file; remove it, or choose another place");
    EXPECT_EQ(remove_abandoned(dir), 0);
    if (reader >= 0) ::close(reader);
  }
  EXPECT_TRUE(std::filesystem::exists(partial));
}

TEST(Folder, ListsEntriesInOrderAndNeverThrows) {
  const TempDir temporary;
  const std::string dir = temporary.string();
  std::filesystem::create_directories(dir + "/b/c");
  std::ofstream(dir + "/a") << "1";
  std::filesystem::create_directory_symlink(dir, dir + "/d");
  using Paths = std::vector<std::filesystem::path>;
  EXPECT_EQ(folder_entries(dir), (Paths{dir + "/a", dir + "/b", dir + "/d"}));
  EXPECT_EQ(entries_below(dir), (Paths{dir + "/a", dir + "/b", dir + "/b/c", dir + "/d"}));
  EXPECT_TRUE(folder_entries(dir + "/a").empty());
  EXPECT_TRUE(folder_entries(dir + "/nowhere").empty());
}

TEST(Budget, EachCategoryHasItsOwnPeakAndAChargeEndsWithItsOwner) {
  Budget budget(100 << 10);
  {
    auto text = Buffer::allocate(budget, MemoryCategory::kText, 40 << 10);
    auto foreign = Charge::acquire(budget, MemoryCategory::kMedia, 1000);
    ASSERT_TRUE(text.ok() && foreign.ok());
    EXPECT_FALSE(Charge::acquire(budget, MemoryCategory::kMedia, 90 << 10).ok());
  }
  auto vae = Buffer::allocate(budget, MemoryCategory::kVae, 8 << 10);
  EXPECT_EQ(budget.used_bytes(), 8u << 10);
  EXPECT_EQ(budget.peak_bytes(), (40u << 10) + 1000);
  EXPECT_EQ(budget.peak_by_category()[size_t(MemoryCategory::kText)], 40u << 10);
  EXPECT_EQ(budget.peak_by_category()[size_t(MemoryCategory::kMedia)], 1000u);
  EXPECT_EQ(budget.used_by_category()[size_t(MemoryCategory::kVae)], 8u << 10);
}

TEST(Budget, ADryRunBudgetCountsAndAllocatesNoMemory) {
  Budget counting{Budget::DryRun()};
  auto huge = OwnedTensor::allocate(counting, MemoryCategory::kWeights, {1 << 20, 1 << 20}, DType::kF32);
  ASSERT_TRUE(huge.ok());
  EXPECT_TRUE(huge->tensor.empty());
  EXPECT_EQ(huge->buffer.bytes(), size_t{1} << 42);
  EXPECT_EQ(counting.used_bytes(), size_t{1} << 42);
  EXPECT_TRUE(huge->tensor.slice(5, 2).empty());
  Arena arena = *Arena::allocate(counting, MemoryCategory::kVae, 4096);
  EXPECT_TRUE(arena.dry_run());
}

// A bug of the program that uses it, said in every build: the value that is not there is never read.
TEST(ExpectedDeathTest, TakingTheValueOfAnErrorAsserts) {
  Expected<std::string> none = not_found("/nowhere.png is not there");
  EXPECT_DEATH(none->size(), "a value taken of an Expected that has none: /nowhere.png is not there");
  EXPECT_DEATH((void)*none, "has none");
  EXPECT_DEATH((void)*std::move(none), "has none");
  EXPECT_DEATH((void)Expected<int>(Status()), "a Status that is ok");
  Expected<std::string> some = std::string("there");
  EXPECT_EQ(some->size(), 5u);
}

}  // namespace
}  // namespace liveavatar
