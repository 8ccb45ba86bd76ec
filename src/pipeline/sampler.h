// Denoising of blocks: the DiT, its caches, the solver's steps, and the order in which they come. One block
// after the other, or as a wavefront: step j of a block beside step j + 1 of the block before, so that the weights of a
// layer serve both (docs/paging.md). A step's ring sees its own step alone, so the bits are the same in every order.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/memory.h"
#include "models/s2v_dit/s2v_dit.h"
#include "pipeline/solver.h"
#include "plan/job_memory.h"

namespace liveavatar {

struct SamplerOptions {
  SolverKind solver = SolverKind::kEuler;
  int steps = 4;
  double shift = 3.0;
  uint64_t seed = 420;
  int64_t relative_dist = 0;    // 0: drawn for every forward from seed, block and step; else 4..30
  int64_t actors = 1;           // voices of a block
  int64_t in_flight = 1;        // blocks side by side: 1, or up to `steps`
  int64_t resident_rings = -1;  // of steps times layers, in memory; -1: all
  std::string ring_folder;      // where the others are
};

// Where blocks come from and where they go.
struct BlockFeed {
  // Before a block's first step. features [actors, layers, audio_dim, 12] f32 are used at once. The others are the
  // caller's until done(), one of each a block in flight: latents [16, 3, h, w] f32 are noise, and become what is
  // handed to done(); actor_masks [actors, 3, rows, columns] f32 with several actors; pose [16, 3, h, w] f32 of a
  // pose video.
  struct Start {
    Tensor features, latents, actor_masks, pose;
  };
  std::function<Expected<Start>(int64_t block)> start;
  std::function<Status(int64_t block, const Tensor& latents)> done;  // in order
};

// One video. All memory is taken in open(). Not thread-safe.
class Sampler {
 public:
  static Expected<std::unique_ptr<Sampler>> open(S2vDit& dit, Backend& backend, Budget& budget,
                                                 const DitGeometry& geometry, const SamplerOptions& options);

  // rows [tokens, text_dim] f32 of the prompt.
  void set_prompt(const Tensor& rows);
  // (Re)fills the sink: reference [16, 1, h, w], motion [16, 19, h, w], f32. The rings stay.
  Status prefill(const Tensor& reference, const Tensor& motion);
  // Denoises blocks [first, first + count). Between two calls nothing is in flight: the time to renew the sink.
  Status run(int64_t first, int64_t count, const BlockFeed& feed);
  // Of keys and values that are not all in memory.
  PagingCounts ring_counts() const { return memory_.caches->rings->counts(); }

 private:
  Sampler(S2vDit& dit, Backend& backend, const DitGeometry& geometry, const SamplerOptions& options)
      : dit_(dit), backend_(backend), geometry_(geometry), options_(options) {}
  struct Forward {  // step `step` of a block, in flight `slot`
    int64_t block = 0, step = 0;
    size_t slot = 0;
  };
  // Blocks [first, first + count), begun `lag` turns after one another.
  struct Diagonals {
    int64_t first = 0, count = 0, steps = 0, in_flight = 1, lag = 1;
    std::vector<Forward> of(int64_t turn) const;  // the oldest block first
  };
  void expect_rings(const Diagonals& diagonals, int64_t turn);
  int64_t relative_dist(int64_t block, int64_t step) const;
  Status begin(const Forward& forward, const BlockFeed& feed);
  void end(const Forward& forward);

  S2vDit& dit_;
  Backend& backend_;
  DitGeometry geometry_;
  SamplerOptions options_;
  Solver solver_;
  SamplerMemory memory_;
  std::vector<BlockFeed::Start> blocks_;  // in flight
  std::vector<Tensor> history_;           // the solver's, block after block in flight
  std::vector<DitFlight*> flights_;
};

}  // namespace liveavatar
