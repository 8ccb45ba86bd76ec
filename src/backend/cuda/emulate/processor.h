// The multiprocessor: it runs one block at a time, whose warps and lanes it switches.
#pragma once

#include <string>
#include <vector>

#include "backend/cuda/emulate/access.h"
#include "backend/cuda/emulate/emulate.h"
#include "backend/cuda/emulate/fiber.h"

namespace liveavatar::cuda::emulate {

inline constexpr unsigned kLanes = 32;
inline constexpr size_t kSharedRangeBytes = 256 << 10;  // more than a block may have: to notice overruns
inline constexpr uint32_t kAllLanes = 0xffffffffu;

enum class LaneState : uint8_t { kReady, kAtCollective, kAtBarrier, kDone };

struct AsyncCopy {
  std::byte* to;
  const std::byte* from;
  unsigned bytes, valid, group;
};

struct Warp;
using RunCollective = void (*)(Warp& warp, uint32_t mask);

// What a lane waits for in a collective; `operands` is of the type that `run` knows.
struct Collective {
  const char* name = "";
  RunCollective run = nullptr;
  uint32_t mask = 0;
  void* operands = nullptr;
};

struct Lane {
  Fiber fiber;
  Dim3 index;
  uint16_t thread = 0;  // its number in the block
  LaneState state = LaneState::kDone;
  Collective collective;
  Where where;  // of the barrier or collective
  std::vector<AsyncCopy> copies;
  unsigned committed_groups = 0;
  Warp* warp = nullptr;

  unsigned number() const { return thread % kLanes; }
  unsigned warp_number() const { return thread / kLanes; }
};

struct Warp {
  Lane* lanes = nullptr;
  unsigned count = 0;    // of lanes
  uint32_t waiting = 0;  // lanes at a collective
  uint16_t epoch = 0;    // counts __syncwarp
};

// Who wrote a byte of shared memory last and who read it since. An epoch is the time between two barriers of the block.
struct SharedByte {
  uint32_t write_epoch = 0;
  uint16_t writer = 0, write_warp_epoch = 0;  // writer: a thread and flags (shared_memory.cc)
  uint32_t read_epoch = 0;
  uint16_t reader = 0, read_warp_epoch = 0;
};

struct SharedVariable {
  const void* key;
  size_t offset, bytes;
};

struct Processor {
  Processor();

  bool in_shared(const void* p) const { return size_t(p) - size_t(shared) < kSharedRangeBytes; }

  Fiber scheduler;
  Lane* current = nullptr;  // null in the scheduler
  std::vector<Lane> lanes;
  std::vector<Warp> warps;
  std::byte* stacks = nullptr;

  std::byte* shared = nullptr;
  std::vector<SharedByte> shared_shadow;
  std::vector<SharedVariable> shared_variables;  // the first is the dynamic part
  size_t shared_used = 0;

  unsigned live = 0, at_barrier = 0;    // threads
  uint32_t epoch = 1, block_epoch = 1;  // now; when the block began
  Job job;
  Dim3 block;
  uint16_t block_number = 0;
  Body body = nullptr;
  const void* parameters = nullptr;
  size_t parameter_bytes = 0;
  std::string fault;
  Counts counts;
};

// A launch, now.
void run_launch(const Job& job, Body body, const void* parameters, size_t bytes);

extern thread_local Processor* running;  // null outside of a launch

// Ends the launch: the block's fibers are dropped where they stand.
[[noreturn]] void fail(const std::string& what, const Place& place);
[[noreturn]] void fail_at(const std::string& what, const std::string& place);

std::string describe(const Lane& lane);  // "thread 37 (warp 1 lane 5)"
// Goes on with the next lane of this warp that can, else with the scheduler.
void yield(Processor& p);
void open_barrier(Processor& p);

}  // namespace liveavatar::cuda::emulate
