#include "backend/cuda/emulate/fiber.h"

#include <sys/mman.h>

#include <algorithm>

#include "backend/cuda/emulate/address_range.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the callee's registers on the stack, stores its top in *save, and goes on at the stack whose top is `load`.
extern "C" void liveavatar_switch_stack(void** save, void* load);
#if defined(__x86_64__)
asm(R"(
.text
.globl liveavatar_switch_stack
.type liveavatar_switch_stack, @function
liveavatar_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size liveavatar_switch_stack, .-liveavatar_switch_stack
)");
#else
#error "the device emulation needs a stack switch for this processor"
#endif

namespace liveavatar::cuda::emulate {
namespace {
constexpr size_t kGuardBytes = 4096, kLine = 64;
}

std::byte* allocate_stacks(size_t count) {
  std::byte* stacks = reserve_addresses(count * kStackBytes);
  for (size_t i = 0; i < count; ++i) mprotect(stacks + i * kStackBytes, kGuardBytes, PROT_NONE);
  return stacks;
}

void prepare_fiber(Fiber& fiber, void (*entry)(), size_t number) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(static_cast<char*>(fiber.stack) + kGuardBytes, kStackBytes - kGuardBytes);
#endif
  std::byte* top = static_cast<std::byte*>(fiber.stack) + kStackBytes - kLine - (number * 5 % 48) * kLine;
  // What liveavatar_switch_stack pops: six registers and where to go; then an address that nobody returns to.
  void** frame = reinterpret_cast<void**>(top) - 8;
  std::fill(frame, frame + 8, nullptr);
  frame[6] = reinterpret_cast<void*>(entry);
  fiber.top = frame;
  fiber.asan_frames = nullptr;
}

void on_fiber_entry([[maybe_unused]] Fiber& came_from) {
#if defined(__SANITIZE_ADDRESS__)
  const void* stack = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (came_from.stack == nullptr) {
    came_from.stack = const_cast<void*>(stack);
    came_from.bytes = bytes;
  }
#endif
}

void switch_fiber(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.asan_frames, to.stack, to.bytes);
#endif
  liveavatar_switch_stack(&from.top, to.top);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.asan_frames, nullptr, nullptr);
#endif
}

}  // namespace liveavatar::cuda::emulate
