// Pages of weights between ranks that are processes: each rank asks their owner for them.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "models/s2v_dit/shard.h"
#include "parallel/group.h"

namespace liveavatar {

class S2vDit;
struct Models;
struct RankPart;

constexpr size_t kPagePieceBytes = size_t{8} << 20;  // of its buffer

// Both ends of a rank: it reads the pages of others, and a thread of its own answers the others. dit and group outlive
// it. No forward runs when it ends, here or on another rank. What that thread cannot do fails the group.
class PageServer : public PagePeers {
 public:
  // backend: the model's. first_rank: the rank of the first share. Sets the model's peers. kOutOfMemory: of its buffer,
  // in host memory.
  static Expected<std::unique_ptr<PageServer>> open(S2vDit& dit, const Backend& backend, Group& group,
                                                    const RankShare& share, int first_rank, Budget& host);
  ~PageServer() override;
  Status read(int64_t owner, size_t page, const PageRange& range, std::byte* target,
              const std::atomic<bool>& stop) override;

 private:
  struct Request {
    uint64_t page = 0, begin = 0, bytes = 0;
  };
  PageServer(S2vDit& dit, Group& group, const RankShare& share, int first_rank)
      : dit_(dit), group_(group), share_(share), first_rank_(first_rank) {}
  Status serve();
  Status answer(int rank);

  S2vDit& dit_;
  Group& group_;
  RankShare share_;
  int first_rank_;
  std::vector<size_t> own_bytes_;  // of each page; 0: of another rank
  Buffer piece_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

// Of a rank that has a share of the weights; else null.
Expected<std::unique_ptr<PageServer>> serve_pages(Models& models, Group& group, const RankPart& part);

}  // namespace liveavatar
