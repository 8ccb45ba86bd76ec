// Launches: the blocks of a grid one after another, the lanes of a block as fibers.
#include <algorithm>
#include <cstdlib>

#include "backend/cuda/emulate/address_range.h"
#include "backend/cuda/emulate/device_memory.h"
#include "backend/cuda/emulate/processor.h"
#include "backend/cuda/emulate/shared_memory.h"

namespace liveavatar::cuda::emulate {

Counts last_counts;
uint32_t order_seed = 0;
thread_local Processor* running = nullptr;

Processor::Processor()
    : stacks(allocate_stacks(kLimits.threads)),
      shared(reserve_addresses(kSharedRangeBytes)),
      shared_shadow(kSharedRangeBytes) {}

std::string describe(const Lane& lane) {
  return "thread " + std::to_string(lane.thread) + " (warp " + std::to_string(lane.warp_number()) + " lane " +
         std::to_string(lane.number()) + ")";
}

void fail_at(const std::string& what, const std::string& place) {
  Processor& p = *running;
  if (!p.fault.empty()) std::abort();
  const std::string block =
      "(" + std::to_string(p.block.x) + "," + std::to_string(p.block.y) + "," + std::to_string(p.block.z) + ")";
  p.fault = std::string("kernel ") + p.job.name + ", block " + block + ", " +
            (p.current != nullptr ? describe(*p.current) : "all threads") + ", " + place + ": " + what;
  if (p.current == nullptr) throw Fault(p.fault);
  switch_fiber(p.current->fiber, p.scheduler);
  std::abort();
}
void fail(const std::string& what, const Place& place) { fail_at(what, place.text()); }

void yield(Processor& p) {
  Lane& self = *p.current;
  Warp& warp = *self.warp;
  for (unsigned i = 1; i < warp.count; ++i) {
    Lane& next = warp.lanes[(self.number() + i) % warp.count];
    if (next.state != LaneState::kReady) continue;
    p.current = &next;
    switch_fiber(self.fiber, next.fiber);
    return;
  }
  switch_fiber(self.fiber, p.scheduler);
}

void open_barrier(Processor& p) {
  for (Lane& lane : p.lanes) {
    if (lane.state == LaneState::kAtBarrier) lane.state = LaneState::kReady;
  }
  p.at_barrier = 0;
  ++p.epoch;
  ++p.counts.barriers;
}

namespace {

Processor& processor() {
  static thread_local Processor p;
  return p;
}

void run_lane() {
  Processor& p = *running;
  on_fiber_entry(p.scheduler);
  p.body(p.parameters);
  Lane& self = *p.current;
  if (!self.copies.empty()) fail_at("the kernel ends with asynchronous copies that nobody waited for", "at its end");
  self.state = LaneState::kDone;
  --p.live;
  if (p.live > 0 && p.at_barrier == p.live) open_barrier(p);
  yield(p);
  std::abort();
}

void prepare_lanes(Processor& p, const Job& job) {
  const size_t threads = size_t(job.block.x) * job.block.y * job.block.z;
  if (threads == 0 || threads > kLimits.threads)
    throw Fault(std::string(job.name) + ": a block of " + std::to_string(threads) + " threads");
  if (job.shared_bytes > kLimits.shared_bytes)
    throw Fault(std::string(job.name) + ": more shared memory than a card has");
  p.lanes.resize(threads);
  p.warps.resize((threads + kLanes - 1) / kLanes);
  for (size_t i = 0; i < threads; ++i) {
    Lane& lane = p.lanes[i];
    lane.thread = uint16_t(i);
    lane.index = {unsigned(i % job.block.x), unsigned(i / job.block.x % job.block.y),
                  unsigned(i / job.block.x / job.block.y)};
    lane.warp = &p.warps[i / kLanes];
    lane.fiber.stack = p.stacks + i * kStackBytes;
    lane.fiber.bytes = kStackBytes;
  }
  for (size_t w = 0; w < p.warps.size(); ++w) {
    p.warps[w].lanes = &p.lanes[w * kLanes];
    p.warps[w].count = unsigned(std::min<size_t>(kLanes, threads - w * kLanes));
  }
}

void begin_block(Processor& p) {
  p.block_epoch = ++p.epoch;
  p.live = unsigned(p.lanes.size());
  p.at_barrier = 0;
  p.current = nullptr;
  begin_shared(p);
  for (Warp& warp : p.warps) {
    warp.waiting = 0;
    warp.epoch = 0;
  }
  for (Lane& lane : p.lanes) {
    lane.state = LaneState::kReady;
    lane.copies.clear();
    lane.committed_groups = 0;
    prepare_fiber(lane.fiber, run_lane, lane.thread);
  }
}

// Lets every lane of a warp run until it waits or ends. Returns whether one could.
bool run_warp(Processor& p, Warp& warp) {
  bool progress = false;
  for (unsigned i = 0; i < warp.count; ++i) {
    Lane& lane = warp.lanes[order_seed % 2 == 0 ? i : warp.count - 1 - i];
    if (lane.state != LaneState::kReady) continue;
    progress = true;
    p.current = &lane;
    switch_fiber(p.scheduler, lane.fiber);
    p.current = nullptr;
    if (!p.fault.empty()) throw Fault(p.fault);
  }
  return progress;
}

bool same_wait(const Lane& a, const Lane& b) {
  return a.state == b.state && a.where.line == b.where.line && a.warp == b.warp;
}

std::string describe_deadlock(const Processor& p) {
  constexpr int kShown = 6;
  std::string text = "deadlock:";
  int shown = 0;
  const Lane* before = nullptr;
  for (const Lane& lane : p.lanes) {
    if (lane.state == LaneState::kDone) continue;
    if (before != nullptr && same_wait(*before, lane)) continue;
    before = &lane;
    if (++shown > kShown) break;
    const char* what = lane.state == LaneState::kAtBarrier ? "__syncthreads" : lane.collective.name;
    text += " " + describe(lane) + " and on waits in " + what + " at " + Place(lane.where).text() + ";";
  }
  return text + " " + std::to_string(p.lanes.size() - p.live) + " threads have ended";
}

void run_block(Processor& p) {
  begin_block(p);
  uint32_t random = order_seed * 2654435761u + p.block_number;
  for (bool progress = true; p.live > 0 && progress;) {
    progress = false;
    random = random * 1664525u + 1013904223u;
    const size_t first = order_seed == 0 ? 0 : random % p.warps.size();
    for (size_t i = 0; i < p.warps.size(); ++i) {
      const bool ran = run_warp(p, p.warps[(first + i) % p.warps.size()]);
      progress = progress || ran;
    }
  }
  if (p.live > 0) fail_at(describe_deadlock(p), "no thread can go on");
}

// While it lives, a launch runs and device memory can be touched.
struct Running {
  explicit Running(Processor& p) {
    device_memory().set_accessible(true);
    running = &p;
  }
  ~Running() {
    running = nullptr;
    device_memory().set_accessible(false);
  }
};

}  // namespace

void run_launch(const Job& job, Body body, const void* parameters, size_t bytes) {
  if (job.grid.x == 0 || job.grid.y == 0 || job.grid.z == 0) throw Fault(std::string(job.name) + ": an empty grid");
  Processor& p = processor();
  p.job = job;
  p.body = body;
  p.parameters = parameters;
  p.parameter_bytes = bytes;
  p.fault.clear();
  p.counts = {};
  prepare_lanes(p, job);
  device_memory().begin_launch();
  const Running now(p);
  for (p.block.z = 0; p.block.z < job.grid.z; ++p.block.z) {
    for (p.block.y = 0; p.block.y < job.grid.y; ++p.block.y) {
      for (p.block.x = 0; p.block.x < job.grid.x; ++p.block.x) {
        p.block_number = uint16_t(p.counts.blocks % kBlockNumbers);
        ++p.counts.blocks;
        run_block(p);
      }
    }
  }
  last_counts = p.counts;
}

Dim3 thread_index() { return running->current->index; }
unsigned lane_index() { return running->current->number(); }
Dim3 block_index() { return running->block; }
Dim3 block_size() { return running->job.block; }
Dim3 grid_size() { return running->job.grid; }

}  // namespace liveavatar::cuda::emulate
