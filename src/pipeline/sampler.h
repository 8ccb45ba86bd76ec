// Denoising of blocks: the DiT, its caches, the solver's steps, and the order in which they come. One block
// after the other, or as a wavefront: step j of a block beside step j + 1 of the block before, so that the weights of a
// layer serve both (docs/paging.md). A step's ring sees its own step alone, so the bits are the same in every order.
#pragma once

#include <functional>
#include <memory>
#include <span>
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

// Blocks [first, first + count).
struct BlockRange {
  int64_t first = 0, count = 0;
};

// One video. All memory is taken in open(). Not thread-safe.
class Sampler {
 public:
  static Expected<std::unique_ptr<Sampler>> open(const S2vDit& dit, Backend& backend, Budget& budget,
                                                 const DitGeometry& geometry, const SamplerOptions& options);

  // rows [tokens, text_dim] f32 of the prompt.
  void set_prompt(const Tensor& rows);
  // (Re)fills the sink: reference [16, 1, h, w], motion [16, 19, h, w], f32. The rings stay.
  Status prefill(DitPages& pages, const Tensor& reference, const Tensor& motion);
  // Denoises blocks. Between two calls nothing is in flight: the time to renew the sink.
  Status run(DitPages& pages, const BlockRange& blocks, const BlockFeed& feed);

  // Of several videos side by side, each by a sampler of its own on one model: a layer's weights serve the forwards of
  // all. Each video's bits are those of a run alone. The first failure ends all.
  struct Run {
    Sampler* sampler = nullptr;
    BlockRange blocks;
    const BlockFeed* feed = nullptr;
  };
  static Status run_together(DitPages& pages, std::span<const Run> runs);

  // Of keys and values that are not all in memory.
  PagingCounts ring_counts() const { return memory_.session->caches.rings->counts(); }

 private:
  Sampler(const S2vDit& dit, Backend& backend, const SamplerOptions& options)
      : dit_(dit), backend_(backend), options_(options) {}
  struct Forward {  // step `step` of a block, in flight `slot`
    int64_t block = 0, step = 0;
    size_t slot = 0;
  };
  // What of a range of blocks is done in a turn: the oldest block first, empty behind the last.
  std::vector<Forward> forwards_of(const BlockRange& blocks, int64_t turn) const;
  void expect_rings(const BlockRange& blocks, int64_t turn);
  // The forwards of one turn begin, and after all layers end.
  Status begin_turn(const Run& run, int64_t turn, std::vector<DitFlight*>& flights);
  Status end_turn(const Run& run, int64_t turn);
  int64_t relative_dist(int64_t block, int64_t step) const;
  Status begin(const Forward& forward, const BlockFeed& feed);
  void end(const Forward& forward);

  const S2vDit& dit_;
  Backend& backend_;
  SamplerOptions options_;
  Solver solver_;
  SamplerMemory memory_;
  std::vector<BlockFeed::Start> blocks_;  // in flight
  std::vector<Tensor> history_;           // the solver's, block after block in flight
};

}  // namespace liveavatar
