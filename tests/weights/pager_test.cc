// The weight pager: order, eviction, broken files, an end at any time. Packed files: every lie is named.
#include "weights/pager.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "weights/packed_file.h"

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

class PagerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / ("la_pager_" + std::to_string(getpid()));
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  std::string path(const std::string& name) const { return (dir_ / name).string(); }
  // Page p is filled with p + 1.
  std::string write_pages(size_t count) const {
    std::ofstream file(dir_ / "pages", std::ios::binary);
    for (size_t p = 0; p < count; ++p) file << std::string(kPage, static_cast<char>(p + 1));
    return path("pages");
  }
  std::unique_ptr<WeightPager> open(const std::string& file, std::vector<bool> stays,
                                    DirectFile::Pread pread = nullptr) {
    std::vector<PageSpan> spans;
    for (size_t p = 0; p < stays.size(); ++p) spans.push_back({p * kPage, kPage});
    auto memory = PageMemory::allocate(spans, stays, budget_);
    EXPECT_TRUE(memory.ok()) << memory.status().message();
    auto pager = WeightPager::open(*DirectFile::open(file, pread), spans, *std::move(memory));
    EXPECT_TRUE(pager.ok()) << pager.status().message();
    return pager.ok() ? *std::move(pager) : nullptr;
  }
  static void expect_page(WeightPager& pager, size_t page) {
    const std::byte* data = pager.pin(page);
    std::string want(kPage, static_cast<char>(page + 1));
    EXPECT_EQ(std::memcmp(data, want.data(), kPage), 0) << "page " << page;
    pager.release(page);
  }
  // The reader works beside us: what the slots hold, once they hold it.
  static void expect_held(const WeightPager& pager, const std::vector<int64_t>& want) {
    for (int i = 0; i < 500 && pager.held() != want; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(pager.held(), want);
  }

  fs::path dir_;
  Budget budget_;
};

TEST_F(PagerTest, PagesComeRoundAfterRoundWithTheirBytes) {
  auto pager = open(write_pages(7), {false, true, false, false, true, false, false});
  pager->expect({0, 1, 2, 3, 4, 5, 6});
  for (int round = 0; round < 20; ++round) {
    for (size_t p = 0; p < 7; ++p) expect_page(*pager, p);
  }
  // Those that stay are not read again; of the others no more than the slots are read ahead.
  EXPECT_GE(pager->bytes_read(), 20 * 5 * kPage);
  EXPECT_LE(pager->bytes_read(), (20 * 5 + PageMemory::kSlots) * kPage);
  EXPECT_EQ(budget_.used_bytes(Tenant::kWeights), (2 + PageMemory::kSlots) * kPage);
  pager.reset();
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

TEST_F(PagerTest, PagesMayBeLeftOutAndTheOrderMayChange) {
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

TEST_F(PagerTest, ASlotIsTakenFromThePageWhoseNextUseIsFarthest) {
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

TEST_F(PagerTest, APinnedPageIsNotOverwritten) {
  auto pager = open(write_pages(4), std::vector<bool>(4, false));
  pager->expect({0, 1, 2, 3});
  const std::byte* data = pager->pin(0);
  expect_held(*pager, {0, 1});
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(data[0], std::byte{1});
  EXPECT_EQ(pager->held(), (std::vector<int64_t>{0, 1}));
  pager->release(0);
  expect_held(*pager, {2, 1});
}

TEST_F(PagerTest, ShortReadsAndRefusedDirectReadsAreMadeUpFor) {
  for (DirectFile::Pread pread : {short_pread, refusing_pread}) {
    auto pager = open(write_pages(5), {true, false, false, false, false}, pread);
    pager->expect({0, 1, 2, 3, 4});
    for (int round = 0; round < 3; ++round) {
      for (size_t p = 0; p < 5; ++p) expect_page(*pager, p);
    }
    EXPECT_TRUE(pager->status().ok()) << pager->status().message();
    if (pread == refusing_pread) {
      EXPECT_FALSE(pager->direct());
    }
  }
}

TEST_F(PagerTest, FailuresStickNameTheFileAndBlockNobody) {
  std::string file = write_pages(5);
  {
    auto pager = open(file, std::vector<bool>(5, false), failing_pread);
    pager->expect({0, 1, 2, 3, 4});
    for (int round = 0; round < 2; ++round) {
      for (size_t p = 0; p < 5; ++p) {
        EXPECT_NE(pager->pin(p), nullptr);
        pager->release(p);
      }
    }
    EXPECT_EQ(pager->status().code(), ErrorCode::kIo);
    EXPECT_NE(pager->status().message().find(file), std::string::npos);
  }
  {
    auto pager = open(file, std::vector<bool>(5, false));
    fs::resize_file(file, 3 * kPage);  // somebody cuts it off under our hands
    pager->expect({0, 1, 2, 3, 4});
    for (size_t p = 0; p < 5; ++p) {
      pager->pin(p);
      pager->release(p);
    }
    EXPECT_EQ(pager->status().code(), ErrorCode::kCorrupt);
    EXPECT_NE(pager->status().message().find("cut off"), std::string::npos);
  }
  EXPECT_EQ(DirectFile::open(path("nothing")).status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

TEST_F(PagerTest, AnEndComesAtAnyTime) {
  std::string file = write_pages(6);
  for (int pins = 0; pins < 4; ++pins) {
    auto pager = open(file, std::vector<bool>(6, false), slow_pread);
    pager->expect({0, 1, 2, 3, 4, 5});
    for (size_t p = 0; p < size_t(pins); ++p) {
      pager->pin(p);
      pager->release(p);
    }
  }
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

TEST_F(PagerTest, ABudgetWithoutRoomIsSaidSo) {
  Budget small(3 * kPage);
  std::vector<PageSpan> spans{{0, kPage}, {kPage, kPage}, {2 * kPage, kPage}};
  EXPECT_EQ(PageMemory::allocate(spans, {true, true, false}, small).status().code(), ErrorCode::kOutOfMemory);
  EXPECT_TRUE(PageMemory::allocate(spans, {true, true, true}, small).ok());
  EXPECT_EQ(small.used_bytes(), 0u);
}

class PackedFileTest : public PagerTest {
 protected:
  static PackedHeader header(size_t pages) {
    PackedHeader h;
    h.model = "test";
    h.packing = "rows";
    h.dtype = "BF16";
    h.config = R"({"dim":3})";
    h.source = "nowhere";
    for (size_t p = 0; p < pages; ++p) h.pages.push_back({"page " + std::to_string(p), {0, kPage}});
    h.tensors.push_back({"a.weight", {3, 4}});
    return h;
  }
  std::string write_packed(size_t pages = 3) {
    auto writer = PackedWriter::create(path("model.packed"), header(pages));
    EXPECT_TRUE(writer.ok()) << writer.status().message();
    for (size_t p = 0; p < pages; ++p) {
      std::string page(kPage, static_cast<char>(p + 1));
      EXPECT_TRUE((*writer)->append(reinterpret_cast<const std::byte*>(page.data())).ok());
    }
    EXPECT_TRUE((*writer)->finish().ok());
    return path("model.packed");
  }
  static std::string contents(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void rewrite(const std::string& file, const std::string& bytes) {
    std::ofstream(file, std::ios::binary) << bytes;
  }
  // Exchanges words of the header and signs it again.
  static void edit_header(const std::string& file, const std::string& from, const std::string& to) {
    ASSERT_EQ(from.size(), to.size());
    std::string bytes = contents(file);
    uint64_t length = 0;
    std::memcpy(&length, &bytes[8], 8);
    size_t at = bytes.find(from);
    ASSERT_LT(at, length);
    bytes.replace(at, from.size(), to);
    std::string text = bytes.substr(24, length);
    text.resize((length + 31) / 32 * 32, ' ');
    uint64_t sum = page_checksum(reinterpret_cast<const std::byte*>(text.data()), text.size());
    std::memcpy(&bytes[16], &sum, 8);
    rewrite(file, bytes);
  }
  static std::string error_of(const std::string& file) {
    auto read = read_packed_header(file);
    EXPECT_FALSE(read.ok());
    EXPECT_EQ(read.status().message().find('\n'), std::string::npos);
    return read.status().message();
  }
};

TEST_F(PackedFileTest, WhatIsWrittenIsRead) {
  std::string file = write_packed(40);
  auto h = read_packed_header(file);
  ASSERT_TRUE(h.ok()) << h.status().message();
  EXPECT_TRUE(is_packed_file(file));
  EXPECT_EQ(h->model, "test");
  EXPECT_EQ(h->config, R"({"dim":3})");
  EXPECT_EQ(h->parameters(), 12u);
  ASSERT_EQ(h->pages.size(), 40u);
  std::string bytes = contents(file);
  for (size_t p = 0; p < 40; ++p) {
    EXPECT_EQ(h->pages[p].span.offset % DirectFile::kAlign, 0u);
    EXPECT_EQ(bytes[h->pages[p].span.offset], static_cast<char>(p + 1));
  }
  EXPECT_TRUE(verify_packed_file(file, budget_).ok());
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

TEST_F(PackedFileTest, EveryDamageIsNamed) {
  std::string file = write_packed(), good = contents(file);
  for (size_t length : {size_t{0}, size_t{10}, size_t{100}, good.size() - 1, good.size() - kPage}) {
    rewrite(file, good.substr(0, length));
    std::string error = error_of(file);
    EXPECT_NE(error.find(file), std::string::npos);
    EXPECT_NE(error.find(length < 24 ? "not a packed model" : "cut off"), std::string::npos) << error;
  }
  std::string damaged = good;
  damaged[60] ^= 1;
  rewrite(file, damaged);
  EXPECT_NE(error_of(file).find("header is damaged"), std::string::npos);
  damaged = good;
  damaged[good.size() - 5] ^= 1;
  rewrite(file, damaged);
  EXPECT_TRUE(read_packed_header(file).ok());
  EXPECT_NE(verify_packed_file(file, budget_).message().find("page page 2 is damaged"), std::string::npos);
  rewrite(file, good);
  edit_header(file, "\"version\":1", "\"version\":9");
  EXPECT_NE(error_of(file).find("version 9"), std::string::npos);
  rewrite(file, good);
  edit_header(file, "\"bytes\":8192", "\"bytes\":8191");
  EXPECT_NE(error_of(file).find("not where a page can be"), std::string::npos);
  rewrite(file, good);
  edit_header(file, "\"dtype\"", "\"dtypo\"");
  EXPECT_NE(error_of(file).find("lacks dtype"), std::string::npos);
  EXPECT_FALSE(is_packed_file(write_pages(1)));
}

TEST_F(PackedFileTest, AnUnfinishedFileLeavesNothing) {
  {
    auto writer = PackedWriter::create(path("half.packed"), header(2));
    ASSERT_TRUE(writer.ok());
    std::string page(kPage, 'x');
    EXPECT_TRUE((*writer)->append(reinterpret_cast<const std::byte*>(page.data())).ok());
  }
  EXPECT_TRUE(fs::is_empty(dir_));
  EXPECT_EQ(PackedWriter::create("/nowhere/x.packed", header(1)).status().code(), ErrorCode::kIo);
  PackedHeader huge = header(1);
  huge.pages[0].span.bytes = size_t{1} << 45;
  auto writer = PackedWriter::create(path("huge.packed"), huge);
  ASSERT_FALSE(writer.ok());
  EXPECT_NE(writer.status().message().find("the disk has"), std::string::npos) << writer.status().message();
  EXPECT_TRUE(fs::is_empty(dir_));
}

}  // namespace
}  // namespace liveavatar
