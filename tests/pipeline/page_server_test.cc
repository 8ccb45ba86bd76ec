// A rank that gives pages of weights to others: requests that are wrong, and what goes wrong in its thread.
#include "session/page_server.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "models/s2v_dit/s2v_dit.h"
#include "parallel/local_group.h"
#include "pipeline/engine.h"
#include "support/mini.h"

namespace liveavatar {
namespace {

constexpr RankShare kServer{1, 2};

// As PageServer sends it.
struct Request {
  uint64_t page = 0, begin = 0, bytes = 0;
};

class PageServing : public ::testing::Test {
 protected:
  void SetUp() override {
    RankPart part;
    part.weights = kServer;
    part.lead = false;
    EngineOptions options = mini_options();
    options.shard_weights = true;
    models_ = *Models::load(*Checkpoint::open(options), nullptr, part);
    for (const PackedPage& page : dit_packed_pages(models_->dit->config(), *models_->backend, models_->types))
      bytes_.push_back(page.span.bytes);
    bytes_.erase(bytes_.begin());
    owners_ = deal_pages(bytes_, kServer.ranks);
  }
  size_t page_of(int64_t owner) const {
    return static_cast<size_t>(std::find(owners_.begin(), owners_.end(), owner) - owners_.begin());
  }
  // The failure of the group, or ok: the bytes came.
  Status ask(const Request& request) {
    std::vector<std::unique_ptr<Group>> groups = open_local_groups({"cpu", "cpu"}, {.wait_s = 20});
    RankPart part;
    part.weights = kServer;
    const auto server = serve_pages(*models_, *groups[1], part);
    EXPECT_TRUE(server.ok());
    EXPECT_TRUE(groups[0]->send(1, Tag::kWeights, std::as_bytes(std::span(&request, 1))).ok());
    std::vector<std::byte> bytes(std::min<uint64_t>(request.bytes, kPagePieceBytes));
    return groups[0]->receive(1, Tag::kPage, bytes);
  }

  std::unique_ptr<Models> models_;
  std::vector<size_t> bytes_;
  std::vector<int64_t> owners_;
};

TEST_F(PageServing, GivesWhatIsAskedForWithinItsPages) {
  const uint64_t page = page_of(1), bytes = bytes_[page];
  ASSERT_LE(bytes, kPagePieceBytes);
  EXPECT_TRUE(ask({page, 0, bytes}).ok());
  EXPECT_TRUE(ask({page, bytes - 16, 16}).ok());
}

TEST_F(PageServing, AWrongRequestFailsTheGroup) {
  const uint64_t page = page_of(1), bytes = bytes_[page], most = ~uint64_t{0};
  const std::vector<Request> wrong{{page_of(0), 0, 16},    {page_of(0), 0, 0},   {bytes_.size(), 0, 16},
                                   {most, 0, 16},          {page, 0, bytes + 1}, {page, bytes, 16},
                                   {page, bytes - 15, 16}, {page, most - 7, 16}, {page, 0, kPagePieceBytes + 1}};
  for (const Request& request : wrong) {
    const Status status = ask(request);
    EXPECT_EQ(status.code(), ErrorCode::kCorrupt) << request.page << " " << request.begin << " " << request.bytes;
    EXPECT_NE(status.message().find("rank 1 ("), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("rank 0 ("), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("weights that are not here"), std::string::npos) << status.message();
  }
}

class NoMemory : public SubGroup {
 public:
  using SubGroup::SubGroup;
  Expected<bool> arrived(int, Tag) override { throw std::bad_alloc(); }
};

TEST_F(PageServing, AnExceptionInItsThreadFailsTheGroup) {
  std::vector<std::unique_ptr<Group>> groups = open_local_groups({"cpu", "cpu"}, {.wait_s = 20});
  NoMemory throwing(*groups[1], {0, 1});
  RankPart part;
  part.weights = kServer;
  const auto server = serve_pages(*models_, throwing, part);
  ASSERT_TRUE(server.ok());
  std::byte never{};
  const Status status = groups[0]->receive(1, Tag::kPage, {&never, 1});
  EXPECT_EQ(status.code(), ErrorCode::kOutOfMemory);
  EXPECT_NE(status.message().find("rank 1 ("), std::string::npos) << status.message();
}

}  // namespace
}  // namespace liveavatar
