#include "backend/cuda/emulate/collective.h"

#include <bit>
#include <cstring>

namespace liveavatar::cuda::emulate {
namespace {

bool same_place(const Where& a, const Where& b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

bool agree(const Lane& a, const Lane& b) {
  return a.collective.run == b.collective.run && a.collective.mask == b.collective.mask && same_place(a.where, b.where);
}

bool has(uint32_t mask, unsigned lane) { return (mask >> lane & 1) != 0; }

struct Shuffle {
  uint32_t value;
  unsigned source;
  uint32_t result;
};
struct Vote {
  bool yes;
  uint32_t result;
};

void run_shuffle(Warp& warp, uint32_t mask) {
  for (unsigned l = 0; l < kLanes; ++l) {
    if (!has(mask, l)) continue;
    Shuffle& s = operands_of<Shuffle>(warp, l);
    if (s.source >= kLanes || !has(mask, s.source))
      fail("shuffle from lane " + std::to_string(s.source) + ", which does not take part", warp.lanes[l].where);
    s.result = operands_of<Shuffle>(warp, s.source).value;
  }
}

void run_vote(Warp& warp, uint32_t mask) {
  uint32_t result = 0;
  for (unsigned l = 0; l < kLanes; ++l) {
    if (has(mask, l)) result |= uint32_t(operands_of<Vote>(warp, l).yes) << l;
  }
  for (unsigned l = 0; l < kLanes; ++l) {
    if (has(mask, l)) operands_of<Vote>(warp, l).result = result;
  }
}

void run_sync_warp(Warp& warp, uint32_t) { ++warp.epoch; }

}  // namespace

void collect(const Collective& collective, const Where& where) {
  Processor& p = *running;
  Lane& self = *p.current;
  Warp& warp = *self.warp;
  const uint32_t mask = collective.mask;
  if (!has(mask, self.number())) fail(collective.name + std::string(": the mask lacks the calling lane"), where);
  if (warp.count < kLanes && (mask >> warp.count) != 0)
    fail(collective.name + std::string(": lanes that do not exist"), where);
  self.collective = collective;
  self.where = where;
  warp.waiting |= 1u << self.number();
  if ((warp.waiting & mask) != mask) {
    self.state = LaneState::kAtCollective;
    yield(p);
    return;
  }
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    Lane& lane = warp.lanes[std::countr_zero(left)];
    if (!agree(self, lane))
      fail(std::string("lanes of a warp disagree: ") + collective.name + " here, but lane " +
               std::to_string(lane.number()) + " is in " + lane.collective.name + " at " + Place(lane.where).text(),
           where);
    lane.state = LaneState::kReady;
  }
  warp.waiting &= ~mask;
  collective.run(warp, mask);
}

void sync_threads(Where where) {
  Processor& p = *running;
  Lane& self = *p.current;
  self.where = where;
  for (const Lane& lane : p.lanes) {
    if (lane.state != LaneState::kAtBarrier) continue;
    if (!same_place(lane.where, where))
      fail("__syncthreads here, while " + describe(lane) + " waits in another, at " + Place(lane.where).text(), where);
    break;
  }
  ++p.at_barrier;
  if (p.at_barrier == p.live) {
    open_barrier(p);
    return;
  }
  self.state = LaneState::kAtBarrier;
  yield(p);
}

void sync_warp(uint32_t mask, Where where) { collect({"__syncwarp", run_sync_warp, mask, nullptr}, where); }

uint32_t shuffle(uint32_t mask, uint32_t value, unsigned source, Where where) {
  Shuffle s{value, source, 0};
  collect({"shuffle", run_shuffle, mask, &s}, where);
  return s.result;
}

uint32_t ballot(uint32_t mask, bool yes, Where where) {
  Vote v{yes, 0};
  collect({"vote", run_vote, mask, &v}, where);
  return v.result;
}

}  // namespace liveavatar::cuda::emulate
