// Device emulation: CUDA's execution model on a plain CPU, to test kernels where there is no card. The threads of a
// block are fibers of one OS thread. Barriers and warp collectives happen only when every lane that must come has come.
// Asynchronous copies to shared memory land when they are waited for, and not before.
//
// Kernels that are compiled with -fsanitize=thread call hooks.cc at every load and store (no sanitizer library is
// linked). A launch of such kernels also finds: accesses outside of allocations, and of host memory; misaligned
// vectors; reads of what nobody wrote; reads of copies that are still in flight; races in shared memory between two
// barriers; races between blocks in global memory. The first finding ends the launch with a Fault.
//
// Not thread-safe: one launch or copy at a time in a process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <type_traits>

namespace liveavatar::cuda::emulate {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Where a kernel calls: std::source_location, which clang 14 (make tidy) lacks.
struct Where {
  const char* file = "";
  unsigned line = 0;

  static constexpr Where current(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    return {file, line};
  }
};

// ---- Called by the host ----

struct Limits {  // of the emulated card: what every card from sm_80 on has
  size_t shared_bytes = 99 * 1024;
  unsigned threads = 1024;
};
inline constexpr Limits kLimits;

struct Counts {  // of one launch
  uint64_t blocks = 0, barriers = 0, products = 0, matrix_loads = 0, bank_conflicts = 0;
};

struct Job {
  const char* name = "";
  Dim3 grid, block;
  size_t shared_bytes = 0;  // dynamic
};

// Runs `body` as every thread of the grid, at once or, with a stream, when somebody waits for it (emulate/stream.h).
// What it captured by value are the kernel's parameters: threads may read them.
class Stream;
template <typename Body>
void launch(Stream* stream, const Job& job, const Body& body);
extern Counts last_counts;   // of the last launch that ended without a Fault
extern uint32_t order_seed;  // warps take turns in an order that depends on it; 0: in the order of their numbers

// Device memory is a range of addresses of its own. Fresh memory counts as never written; addresses are not used again.
void* allocate(size_t bytes);
void release(void* memory);
void copy_to_device(void* device, const void* host, size_t bytes);
void copy_to_host(void* host, const void* device, size_t bytes);
void fill(void* device, int byte, size_t bytes);
void poison(void* device, int byte, size_t bytes);  // as fill, but it still counts as never written
// As on a real machine: outside of launches and copies, a host access to device memory ends in SIGSEGV.
void protect_from_host(bool yes);

// ---- Called by a kernel's thread ----

Dim3 thread_index();
unsigned lane_index();
Dim3 block_index();
Dim3 block_size();
Dim3 grid_size();

void sync_threads(Where where);
void sync_warp(uint32_t mask, Where where);
uint32_t shuffle(uint32_t mask, uint32_t value, unsigned source, Where where);  // source: lane 0..31
uint32_t ballot(uint32_t mask, bool yes, Where where);

void* dynamic_shared();
void* static_shared(const void* key, size_t bytes);

// `bytes` to shared memory: the first `valid` from global memory, then zeros.
void copy_async(void* shared, const void* global, unsigned bytes, unsigned valid, Where where);
void commit_copies();
void wait_copies(unsigned groups_left);

// ldmatrix: `count` 8x8 matrices of 16-bit elements, one to a register; lane l names row l % 8 of matrix l / 8.
void load_matrices(uint32_t* registers, unsigned count, bool transposed, const void* row, Where where);

enum class Operand { kBF16, kE4M3, kS8 };
// mma: d += a b, of m16n8k16 (bf16) or m16n8k32 (8-bit). A lane's registers: 4 floats or ints of d, 4 of a, 2 of b.
void multiply(Operand type, void* d, const uint32_t* a, const uint32_t* b, Where where);

int atomic_add(int* at, int value, Where where = Where::current());

// ---- Behind the templates ----

using Body = void (*)(const void*);
void launch_body(Stream* stream, const Job& job, Body body, const void* parameters, size_t bytes);

template <typename F>
void launch(Stream* stream, const Job& job, const F& body) {
  static_assert(std::is_trivially_copyable_v<F>, "parameters of a kernel are copied as bytes");
  launch_body(
      stream, job, [](const void* f) { (*static_cast<const F*>(f))(); }, &body, sizeof(F));
}

// One variable for each place in the source (its Tag) and each instance of a template.
template <typename T, typename Tag>
T& static_shared_of(Tag) {
  static const char key = 0;
  return *static_cast<T*>(static_shared(&key, sizeof(T)));
}

}  // namespace liveavatar::cuda::emulate
