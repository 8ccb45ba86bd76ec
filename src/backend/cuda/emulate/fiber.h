// Stacks that are switched by hand: one for each thread of a block, and the scheduler's.
#pragma once

#include <cstddef>

namespace liveavatar::cuda::emulate {

struct Fiber {
  void* top = nullptr;    // of the stack, while the fiber does not run
  void* stack = nullptr;  // its lowest address; the first page is a guard
  size_t bytes = 0;
  void* asan_frames = nullptr;
};

#if defined(__SANITIZE_ADDRESS__)
inline constexpr size_t kStackBytes = 256 << 10;
#else
inline constexpr size_t kStackBytes = 64 << 10;
#endif

// `count` stacks of kStackBytes.
std::byte* allocate_stacks(size_t count);
// The fiber begins with `entry`, which never returns. Fibers of different numbers use different cache sets.
void prepare_fiber(Fiber& fiber, void (*entry)(), size_t number);
// The first statement of `entry`.
void on_fiber_entry(Fiber& came_from);
void switch_fiber(Fiber& from, Fiber& to);

}  // namespace liveavatar::cuda::emulate
