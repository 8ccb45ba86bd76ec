// One rank's share of a forward that several ranks compute together (Ulysses): of every frame some tokens, and in the
// self-attention some heads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace liveavatar {

// Things [first, first + count).
struct Range {
  int64_t first = 0, count = 0;
};

// The index'th of `ranks` shares. Nothing has to divide: the first count % ranks of them get one more.
struct RankShare {
  int64_t index = 0, ranks = 1;

  bool whole() const { return ranks == 1; }
  Range of(int64_t count) const { return of(count, index); }
  // Another rank's.
  Range of(int64_t count, int64_t rank) const {
    const int64_t more = count % ranks;
    return {rank * (count / ranks) + std::min(rank, more), count / ranks + (rank < more ? 1 : 0)};
  }
};

// A sequence of tokens, shared frame by frame, so that what is done for each frame needs no other rank. Its rows are in
// the order of frames; those of a rank as well, [frames * its tokens of a frame].
struct TokenLayout {
  int64_t frames = 1, tokens = 0;  // tokens: of a frame

  int64_t rows() const { return frames * tokens; }
  int64_t rows_of(const RankShare& share, int64_t rank) const { return frames * share.of(tokens, rank).count; }
  int64_t own_rows(const RankShare& share) const { return rows_of(share, share.index); }
};

// body(row of the sequence, row among the rank's own, rows) for each range of rows in `part` that a rank has.
template <typename Body>
void for_each_range(const TokenLayout& layout, const RankShare& share, int64_t rank, const Range& part,
                    const Body& body) {
  if (share.whole()) return body(part.first, part.first, part.count);
  const Range own = share.of(layout.tokens, rank);
  for (int64_t frame = 0; frame < layout.frames; ++frame) {
    const int64_t begin = frame * layout.tokens + own.first;
    const int64_t first = std::max(part.first, begin);
    const int64_t end = std::min(part.first + part.count, begin + own.count);
    if (first < end) body(first, frame * own.count + first - begin, end - first);
  }
}

}  // namespace liveavatar
