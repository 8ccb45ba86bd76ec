// The order in which blocks are denoised: one after the other, or as a wavefront: step j of a block beside step j + 1
// of the block before, so that the weights of a layer serve both (docs/paging.md). A step's KV cache sees its own step
// alone, so the bits are the same in every order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/rounding.h"

namespace liveavatar {

// Blocks [first, first + count).
struct BlockRange {
  int64_t first = 0, count = 0;
};

// One forward of the video model: step `step` of a block, in the slot that the block has while it is in flight.
struct Forward {
  int64_t block = 0, step = 0;
  size_t slot = 0;
};

// A tick: each layer is run once, for all blocks in flight.
struct BlockSchedule {
  int64_t steps = 4;
  int64_t in_flight = 1;  // blocks side by side: 1, or up to `steps`

  // Ticks between the beginnings of two blocks: as many as there are steps, and nothing overlaps; one, and every step
  // has a block.
  int64_t ticks_between_blocks() const { return ceil_div(steps, in_flight); }
  // Of `blocks` blocks from the first's beginning to the last's end.
  int64_t ticks(int64_t blocks) const { return (blocks - 1) * ticks_between_blocks() + steps; }
  // Of `begun` blocks those whose step is done before the next one begins.
  int64_t done(int64_t begun, int64_t step) const {
    return std::max<int64_t>(0, begun - step / ticks_between_blocks());
  }
  // What of a range of blocks is done in a tick: the oldest block first, empty behind the last.
  std::vector<Forward> forwards(const BlockRange& blocks, int64_t tick) const {
    const int64_t lag = ticks_between_blocks();
    std::vector<Forward> forwards;
    const int64_t oldest = std::max<int64_t>(0, (tick - steps + lag) / lag);
    for (int64_t b = oldest; b <= std::min(blocks.count - 1, tick / lag); ++b)
      forwards.push_back({blocks.first + b, tick - b * lag, static_cast<size_t>(b % in_flight)});
    return forwards;
  }
};

}  // namespace liveavatar
