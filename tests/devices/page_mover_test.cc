// Pages on their way between a file and the emulated card, in pieces smaller than they are: what a piece has is what is
// copied, though copies come as late as they may.
#include <gtest/gtest.h>

#include <cstring>

#include "paging/page_memory.h"
#include "support/emulated_cuda.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

constexpr size_t kPage = 7 * DirectFile::kAlign, kPiece = 2 * DirectFile::kAlign;

// One page of a scratch file, read and written whole. Reading fails from `fails_from` on.
class OnePage : public PageStore {
 public:
  explicit OnePage(std::unique_ptr<DirectFile> file) : file_(std::move(file)) {}
  std::vector<PageRange> to_read(size_t) const override { return {{0, kPage}}; }
  std::vector<PageRange> to_write(size_t) override { return {{0, kPage}}; }
  Status read(size_t, const PageRange& range, std::byte* target, const std::atomic<bool>& stop) override {
    if (range.begin >= fails_from) return io_error("a broken sector");
    return file_->read(range.begin, target, range.bytes, stop);
  }
  Status write(size_t, const PageRange& range, const std::byte* data, const std::atomic<bool>& stop) override {
    return file_->write(range.begin, data, range.bytes, stop);
  }
  size_t fails_from = kPage;

 private:
  std::unique_ptr<DirectFile> file_;
};

class PageMoverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    card_ = emulated_cuda();
    if (card_ == nullptr) GTEST_SKIP() << "no device emulation in this build";
    budget_ = std::make_unique<Budget>(Budget::kUnlimited, card_->allocator(), host_);
    PageMemory::Layout layout{{kPage}, {PagePlace::kStore}};
    layout.piece_bytes = kPiece;
    memory_ = *PageMemory::allocate(layout, *budget_);
    store_ = std::make_unique<OnePage>(*DirectFile::scratch(dir_.string(), kPage));
    mover_.emplace(*PageMover::open(*store_, memory_));
  }
  std::byte* slot(size_t i) const { return memory_.slots[i].data(); }
  static std::vector<char> values(char first) {
    std::vector<char> bytes(kPage);
    for (size_t i = 0; i < kPage; ++i) bytes[i] = static_cast<char>(first + static_cast<char>(i / 512));
    return bytes;
  }
  std::vector<char> on_card(const std::byte* page) {
    std::vector<char> bytes(kPage);
    EXPECT_TRUE(card_->allocator().read(page, bytes.data(), kPage).ok());
    return bytes;
  }

  const std::atomic<bool> never_{false};
  TempDir dir_;
  std::unique_ptr<DeviceSource> card_;
  Budget host_;
  std::unique_ptr<Budget> budget_;
  PageMemory memory_;
  std::unique_ptr<OnePage> store_;
  std::optional<PageMover> mover_;
};

TEST_F(PageMoverTest, PiecesArriveInTheirPlaces) {
  EXPECT_EQ(memory_.staging.bytes(), 2 * kPiece);
  for (char first : {1, 5, 9}) {
    const std::vector<char> want = values(first);
    ASSERT_TRUE(card_->allocator().write(slot(0), want.data(), kPage).ok());
    ASSERT_TRUE(mover_->write_back(0, slot(0), never_).ok());
    ASSERT_TRUE(mover_->fetch(0, slot(1), never_).ok());
    EXPECT_EQ(on_card(slot(1)), want);
  }
  const PagingCounts counts = mover_->take_counts();
  EXPECT_EQ(counts.bytes_read, 3 * kPage);
  EXPECT_EQ(counts.bytes_written, 3 * kPage);
  EXPECT_EQ(counts.bytes_to_device, 3 * kPage);
  EXPECT_EQ(counts.bytes_from_device, 3 * kPage);
}

TEST_F(PageMoverTest, AReadThatFailsInALaterPieceIsSaid) {
  store_->fails_from = kPiece;
  const Status status = mover_->fetch(0, slot(0), never_);
  EXPECT_EQ(status.message(), "a broken sector");
  store_->fails_from = kPage;
  EXPECT_TRUE(mover_->fetch(0, slot(0), never_).ok());
}

}  // namespace
}  // namespace liveavatar
