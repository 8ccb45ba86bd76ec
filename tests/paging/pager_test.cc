// The pager: order, eviction, what changed comes back, broken files, an end at any time.
#include "paging/pager.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stop_token>
#include <thread>

#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
constexpr size_t kPage = 2 * DirectFile::kAlign;

ssize_t short_pread(int descriptor, void* target, size_t bytes, off_t offset) {
  static int calls = 0;
  if (++calls % 3 == 0) {
    errno = EINTR;
    return -1;
  }
  return ::pread(descriptor, target, std::min<size_t>(bytes, 1000), offset);
}
ssize_t refusing_pread(int descriptor, void* target, size_t bytes, off_t offset) {
  if ((fcntl(descriptor, F_GETFL) & O_DIRECT) != 0) {
    errno = EINVAL;
    return -1;
  }
  return ::pread(descriptor, target, bytes, offset);
}
ssize_t failing_pread(int descriptor, void* target, size_t bytes, off_t offset) {
  if (offset >= off_t(3 * kPage)) {
    errno = EIO;
    return -1;
  }
  return ::pread(descriptor, target, bytes, offset);
}
ssize_t slow_pread(int descriptor, void* target, size_t bytes, off_t offset) {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return ::pread(descriptor, target, bytes, offset);
}
// Asks for a stop, and counts.
std::stop_source stop_in_pread;
int64_t preads = 0;
ssize_t stopping_pread(int descriptor, void* target, size_t bytes, off_t offset) {
  stop_in_pread.request_stop();
  ++preads;
  return ::pread(descriptor, target, bytes, offset);
}

class PagerTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return dir_.file(name); }
  // Page p is filled with p + 1.
  std::string write_pages(size_t count) const {
    std::ofstream file(dir_ / "pages", std::ios::binary);
    for (size_t p = 0; p < count; ++p) file << std::string(kPage, static_cast<char>(p + 1));
    return path("pages");
  }
  static PageMemory::Layout layout(const std::vector<bool>& stays) {
    PageMemory::Layout layout{.bytes = std::vector<size_t>(stays.size(), kPage)};
    for (bool stay : stays) layout.places.push_back(stay ? PagePlace::kDevice : PagePlace::kStore);
    return layout;
  }
  std::unique_ptr<Pager> open(const std::string& file, std::vector<bool> stays, DirectFile::Pread pread = nullptr) {
    std::vector<PageSpan> spans;
    for (size_t p = 0; p < stays.size(); ++p) spans.push_back({p * kPage, kPage});
    auto memory = PageMemory::allocate(layout(stays), budget_);
    EXPECT_TRUE(memory.ok()) << memory.status().message();
    auto store = std::make_unique<FilePages>(*DirectFile::open(file, pread), spans);
    auto pager = std::make_unique<Pager>(std::move(store), *std::move(memory), host_queue());
    Status filled = pager->read_resident();
    EXPECT_TRUE(filled.ok()) << filled.message();
    return pager;
  }
  static void expect_page(Pager& pager, size_t page) {
    const std::byte* data = pager.acquire(page);
    std::string want(kPage, static_cast<char>(page + 1));
    EXPECT_EQ(std::memcmp(data, want.data(), kPage), 0) << "page " << page;
    pager.release(page, {});
  }
  // The reader works beside us: what the slots hold, once they hold it.
  static void expect_held(const Pager& pager, const std::vector<int64_t>& want) {
    for (int i = 0; i < 500 && pager.held() != want; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(pager.held(), want);
  }

  TempDir dir_;
  Budget budget_;
};

TEST_F(PagerTest, ChecksEachPagesChecksumOnce) {
  std::string page(kPage, '\1');
  uint64_t sum = page_checksum(reinterpret_cast<const std::byte*>(page.data()), kPage);
  std::vector<PageSpan> spans{{0, kPage, sum}, {kPage, kPage, sum}};
  FilePages pages(*DirectFile::open(write_pages(2)), spans);
  std::atomic<bool> stop{false};
  auto buffer = Buffer::allocate(budget_, MemoryCategory::kWeights, kPage);
  EXPECT_TRUE(pages.read(0, {0, kPage}, buffer->data(), stop).ok());
  Status damaged = pages.read(1, {0, kPage}, buffer->data(), stop);  // filled with 2
  EXPECT_EQ(damaged.code(), ErrorCode::kCorrupt);
  EXPECT_NE(damaged.message().find("behind byte " + std::to_string(kPage)), std::string::npos) << damaged.message();
}

TEST_F(PagerTest, EveryRoundGivesEveryPageItsBytes) {
  auto pager = open(write_pages(7), {false, true, false, false, true, false, false});
  pager->expect({0, 1, 2, 3, 4, 5, 6});
  for (int round = 0; round < 20; ++round) {
    for (size_t p = 0; p < 7; ++p) expect_page(*pager, p);
  }
  // Those that stay are not read again; of the others no more than the slots are read ahead.
  EXPECT_GE(pager->counts().bytes_read, 20 * 5 * kPage);
  EXPECT_LE(pager->counts().bytes_read, (20 * 5 + PageMemory::kSlots) * kPage);
  EXPECT_EQ(budget_.used_bytes(MemoryCategory::kWeights), (2 + PageMemory::kSlots) * kPage);
  pager.reset();
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

TEST_F(PagerTest, AStopWhileResidentPagesAreReadIsHeardBetweenTwo) {
  preads = 0;
  auto pager = open(write_pages(4), std::vector<bool>(4, true), stopping_pread);  // without a token: reads all
  const int64_t preads_of_all = preads;
  preads = 0;
  stop_in_pread = std::stop_source();
  EXPECT_EQ(pager->read_resident(stop_in_pread.get_token()).code(), ErrorCode::kCancelled);
  EXPECT_EQ(4 * preads, preads_of_all);
  EXPECT_EQ(pager->read_resident(stop_in_pread.get_token()).code(), ErrorCode::kCancelled);
  EXPECT_EQ(4 * preads, preads_of_all);
}

TEST_F(PagerTest, AcceptsSkippedPagesAndANewOrder) {
  auto pager = open(write_pages(6), std::vector<bool>(6, false));
  pager->expect({0, 1, 3, 4});
  for (int round = 0; round < 3; ++round) {
    for (size_t p : {0, 1, 3, 4}) expect_page(*pager, p);
  }
  pager->expect({0, 1, 2, 3, 4, 5});
  for (int round = 0; round < 3; ++round) {
    for (size_t p : {0, 2, 3, 5}) expect_page(*pager, p);  // skipping
  }
}

TEST_F(PagerTest, EvictsThePageWithTheFarthestNextUse) {
  auto pager = open(write_pages(3), {false, false, false});
  pager->expect({0, 1, 2});
  expect_held(*pager, {0, 1});
  expect_page(*pager, 0);
  expect_held(*pager, {2, 1});  // 0 comes after 2
  expect_page(*pager, 1);
  expect_held(*pager, {2, 0});
  // 0 is needed again before 2: the one that was used last stays, against the order of use.
  pager = open(write_pages(3), {false, false, false});
  pager->expect({0, 1, 0, 2});
  expect_held(*pager, {0, 1});
  expect_page(*pager, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  expect_held(*pager, {0, 1});
  expect_page(*pager, 1);
  expect_held(*pager, {0, 2});
}

TEST_F(PagerTest, AnAcquiredPageIsNotOverwritten) {
  auto pager = open(write_pages(4), std::vector<bool>(4, false));
  pager->expect({0, 1, 2, 3});
  const std::byte* data = pager->acquire(0);
  expect_held(*pager, {0, 1});
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(data[0], std::byte{1});
  EXPECT_EQ(pager->held(), (std::vector<int64_t>{0, 1}));
  pager->release(0, {});
  expect_held(*pager, {2, 1});
}

TEST_F(PagerTest, CompletesShortReadsAndFallsBackFromDirectReads) {
  for (DirectFile::Pread pread : {short_pread, refusing_pread}) {
    auto pager = open(write_pages(5), {true, false, false, false, false}, pread);
    pager->expect({0, 1, 2, 3, 4});
    for (int round = 0; round < 3; ++round) {
      for (size_t p = 0; p < 5; ++p) expect_page(*pager, p);
    }
    EXPECT_TRUE(pager->status().ok()) << pager->status().message();
    if (pread == refusing_pread) {
      EXPECT_FALSE(static_cast<const FilePages&>(pager->store()).file().direct());
    }
  }
}

TEST_F(PagerTest, FailuresStickAndNameTheFileWithoutBlocking) {
  std::string file = write_pages(5);
  {
    auto pager = open(file, std::vector<bool>(5, false), failing_pread);
    pager->expect({0, 1, 2, 3, 4});
    for (int round = 0; round < 2; ++round) {
      for (size_t p = 0; p < 5; ++p) {
        EXPECT_NE(pager->acquire(p), nullptr);
        pager->release(p, {});
      }
    }
    EXPECT_EQ(pager->status().code(), ErrorCode::kIo);
    EXPECT_NE(pager->status().message().find(file), std::string::npos);
  }
  {
    auto pager = open(file, std::vector<bool>(5, false));
    fs::resize_file(file, 3 * kPage);  // truncated while it is open
    pager->expect({0, 1, 2, 3, 4});
    for (size_t p = 0; p < 5; ++p) {
      pager->acquire(p);
      pager->release(p, {});
    }
    EXPECT_EQ(pager->status().code(), ErrorCode::kCorrupt);
    EXPECT_NE(pager->status().message().find("cut off"), std::string::npos);
  }
  EXPECT_EQ(DirectFile::open(path("nothing")).status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

TEST_F(PagerTest, RefusesAPipeWithoutBlocking) {
  const TempDir dir;
  const std::string pipe = dir.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  auto file = DirectFile::open(pipe);
  EXPECT_EQ(file.status().message(), pipe + ": not a regular file; give the name of a file on a disk");
}

TEST_F(PagerTest, CanBeDestroyedAtAnyTime) {
  std::string file = write_pages(6);
  for (int pins = 0; pins < 4; ++pins) {
    auto pager = open(file, std::vector<bool>(6, false), slow_pread);
    pager->expect({0, 1, 2, 3, 4, 5});
    for (size_t p = 0; p < size_t(pins); ++p) {
      pager->acquire(p);
      pager->release(p, {});
    }
  }
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

TEST_F(PagerTest, ReportsABudgetWithoutRoom) {
  Budget small(3 * kPage);
  EXPECT_EQ(PageMemory::allocate(layout({true, true, false}), small).status().code(), ErrorCode::kOutOfMemory);
  EXPECT_TRUE(PageMemory::allocate(layout({true, true, true}), small).ok());
  EXPECT_EQ(small.used_bytes(), 0u);
}

// Pages of a scratch file that may be written whole.
class ScratchPages : public PageStore {
 public:
  explicit ScratchPages(std::unique_ptr<DirectFile> file) : file_(std::move(file)) {}
  std::vector<PageRange> to_read(size_t) const override { return {{0, kPage}}; }
  std::vector<PageRange> to_write(size_t) override { return {{0, kPage}}; }
  Status read(size_t page, const PageRange& range, std::byte* target, const std::atomic<bool>& stop) override {
    return file_->read(page * kPage + range.begin, target, range.bytes, stop);
  }
  Status write(size_t page, const PageRange& range, const std::byte* data, const std::atomic<bool>& stop) override {
    return file_->write(page * kPage + range.begin, data, range.bytes, stop);
  }

 private:
  std::unique_ptr<DirectFile> file_;
};

ssize_t short_pwrite(int descriptor, const void* from, size_t bytes, off_t offset) {
  static int calls = 0;
  if (++calls % 3 == 0) {
    errno = EINTR;
    return -1;
  }
  return ::pwrite(descriptor, from, std::min<size_t>(bytes, 1000), offset);
}
ssize_t refusing_pwrite(int descriptor, const void* from, size_t bytes, off_t offset) {
  if ((fcntl(descriptor, F_GETFL) & O_DIRECT) != 0) {
    errno = EINVAL;
    return -1;
  }
  return ::pwrite(descriptor, from, bytes, offset);
}
ssize_t full_pwrite(int, const void*, size_t, off_t) {
  errno = ENOSPC;
  return -1;
}

class ChangingPagesTest : public PagerTest {
 protected:
  std::unique_ptr<Pager> open(const std::vector<bool>& stays, DirectFile::Pwrite pwrite = nullptr) {
    auto file = DirectFile::scratch(dir_.string(), stays.size() * kPage, pwrite);
    EXPECT_TRUE(file.ok()) << file.status().message();
    auto memory = PageMemory::allocate(layout(stays), budget_);
    return std::make_unique<Pager>(std::make_unique<ScratchPages>(*std::move(file)), *std::move(memory), host_queue());
  }
};

TEST_F(ChangingPagesTest, ChangedPagesAreWrittenAndReadBack) {
  for (DirectFile::Pwrite pwrite :
       {DirectFile::Pwrite{::pwrite}, DirectFile::Pwrite{short_pwrite}, DirectFile::Pwrite{refusing_pwrite}}) {
    auto pager = open({false, true, false, false, false, true}, pwrite);
    pager->expect({0, 1, 2, 3, 4, 5});
    for (int round = 0; round < 10; ++round) {
      for (size_t p = 0; p < 6; ++p) {
        auto* values = reinterpret_cast<uint32_t*>(pager->acquire(p));
        for (size_t i = 0; i < kPage / 4; ++i) {
          ASSERT_EQ(values[i], round == 0 ? 0 : 100 * p + i + size_t(round) - 1) << "page " << p << " round " << round;
          values[i] = uint32_t(100 * p + i + size_t(round));
        }
        pager->release(p, {.changed = true});
      }
    }
    EXPECT_TRUE(pager->status().ok()) << pager->status().message();
    EXPECT_GE(pager->counts().bytes_written, (10 * 4 - PageMemory::kSlots) * kPage);
  }
  EXPECT_TRUE(fs::is_empty(dir_.path()));  // the scratch files have no name
}

TEST_F(ChangingPagesTest, UnchangedPagesAreNotWritten) {
  auto pager = open({false, false, false, false});
  pager->expect({0, 1, 2, 3});
  for (int round = 0; round < 3; ++round) {
    for (size_t p = 0; p < 4; ++p) {
      pager->acquire(p);
      pager->release(p, {.changed = p == 2});
    }
  }
  EXPECT_GE(pager->counts().bytes_read, 10 * kPage);
  EXPECT_LE(pager->counts().bytes_written, 3 * kPage);
}

TEST_F(ChangingPagesTest, ReportsAFullDiskWithoutBlocking) {
  auto pager = open({false, false, false}, full_pwrite);
  pager->expect({0, 1, 2});
  for (int round = 0; round < 3; ++round) {
    for (size_t p = 0; p < 3; ++p) {
      EXPECT_NE(pager->acquire(p), nullptr);
      pager->release(p, {.changed = true});
    }
  }
  EXPECT_EQ(pager->status().code(), ErrorCode::kIo);
  EXPECT_NE(pager->status().message().find(dir_.string()), std::string::npos);
  auto huge = DirectFile::scratch(dir_.string(), uint64_t{1} << 50);
  ASSERT_FALSE(huge.ok());
  EXPECT_NE(huge.status().message().find("the disk has"), std::string::npos) << huge.status().message();
  EXPECT_FALSE(DirectFile::scratch("/nowhere", kPage).ok());
}

}  // namespace
}  // namespace liveavatar
