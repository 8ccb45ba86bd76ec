// What g++ -fsanitize=thread calls at every load and store of instrumented code. Linked in place of libtsan, and only
// into programs with such code: nothing else refers to these names.
#include "backend/cuda/emulate/access.h"

using liveavatar::cuda::emulate::AccessKind;
using liveavatar::cuda::emulate::check_instruction;
using liveavatar::cuda::emulate::Place;

// NOLINTBEGIN(bugprone-reserved-identifier): the compiler's names.
#define LA_HOOK(name, bytes, kind, aligned)                                                        \
  extern "C" void name(const void* at) {                                                           \
    check_instruction({at, bytes, AccessKind::kind, Place(__builtin_return_address(0))}, aligned); \
  }
#define LA_HOOKS(bytes)                                      \
  LA_HOOK(__tsan_read##bytes, bytes, kRead, true)            \
  LA_HOOK(__tsan_write##bytes, bytes, kWrite, true)          \
  LA_HOOK(__tsan_unaligned_read##bytes, bytes, kRead, false) \
  LA_HOOK(__tsan_unaligned_write##bytes, bytes, kWrite, false)

LA_HOOKS(1)
LA_HOOKS(2)
LA_HOOKS(4)
LA_HOOKS(8)
LA_HOOKS(16)

extern "C" {
void __tsan_init() { liveavatar::cuda::emulate::start_tracing(); }
void __tsan_func_entry(const void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(const void*, const void*) {}
void __tsan_vptr_read(const void*) {}
void __tsan_read_range(const void* at, size_t bytes) {
  check_instruction({at, bytes, AccessKind::kRead, Place(__builtin_return_address(0))}, false);
}
void __tsan_write_range(const void* at, size_t bytes) {
  check_instruction({at, bytes, AccessKind::kWrite, Place(__builtin_return_address(0))}, false);
}
}
// NOLINTEND(bugprone-reserved-identifier)
