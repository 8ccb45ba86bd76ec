// Packed files: they round trip, and every false entry is named.
#include "weights/packed_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
constexpr size_t kPage = 2 * DirectFile::kAlign;

class PackedFileTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return dir_.file(name); }

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

  TempDir dir_;
  Budget budget_;
};

TEST_F(PackedFileTest, ReadsBackWhatWasWritten) {
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

TEST_F(PackedFileTest, NamesEveryKindOfDamage) {
  std::string file = write_packed(), good = contents(file);
  for (size_t length : {size_t{0}, size_t{10}, size_t{100}, good.size() - 1, good.size() - kPage}) {
    rewrite(file, good.substr(0, length));
    std::string error = error_of(file);
    EXPECT_NE(error.find(file), std::string::npos);
    EXPECT_NE(error.find(length == 0   ? "is empty"
                         : length < 24 ? "not a packed model"
                                       : "cut off"),
              std::string::npos)
        << error;
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
  edit_header(file, "\"version\":2", "\"version\":9");
  EXPECT_NE(error_of(file).find("version 9"), std::string::npos);
  rewrite(file, good);
  edit_header(file, "\"bytes\":8192", "\"bytes\":8191");
  EXPECT_NE(error_of(file).find("not where a page can be"), std::string::npos);
  rewrite(file, good);
  edit_header(file, "\"dtype\"", "\"dtypo\"");
  EXPECT_NE(error_of(file).find("lacks dtype"), std::string::npos);
  rewrite(path("other"), std::string(kPage, 'x'));
  EXPECT_FALSE(is_packed_file(path("other")));
}

TEST_F(PackedFileTest, AnUnfinishedFileIsRemoved) {
  {
    auto writer = PackedWriter::create(path("half.packed"), header(2));
    ASSERT_TRUE(writer.ok());
    std::string page(kPage, 'x');
    EXPECT_TRUE((*writer)->append(reinterpret_cast<const std::byte*>(page.data())).ok());
  }
  EXPECT_TRUE(fs::is_empty(dir_.path()));
  EXPECT_EQ(PackedWriter::create("/nowhere/x.packed", header(1)).status().code(), ErrorCode::kIo);
  PackedHeader huge = header(1);
  huge.pages[0].span.bytes = size_t{1} << 45;
  auto writer = PackedWriter::create(path("huge.packed"), huge);
  ASSERT_FALSE(writer.ok());
  EXPECT_NE(writer.status().message().find("the disk has"), std::string::npos) << writer.status().message();
  EXPECT_TRUE(fs::is_empty(dir_.path()));
}

}  // namespace
}  // namespace liveavatar
