// Compiled as checked kernels are.
#include "backend/cuda/kernels/device.h"
#include "faulty_kernels.h"

namespace liveavatar::cuda::emulated {
namespace {

using Operands = FaultyKernelOperands;
using Words = int[64];

__global__ void correct_exchange_in_warp(Operands o) {
  LA_SHARED(Words, words);
  const int t = int(threadIdx.x);
  words[t] = t;
  sync_warp();
  o.a[t] = words[t ^ 1];
  sync_warp();
  words[t ^ 1] = 7;
}
__global__ void exchange_in_warp_without_sync(Operands o) {
  LA_SHARED(Words, words);
  const int t = int(threadIdx.x);
  words[t] = t;
  o.a[t] = words[t ^ 1];
}
__global__ void overwrites_what_a_lane_read(Operands o) {
  LA_SHARED(Words, words);
  const int t = int(threadIdx.x);
  words[t] = t;
  sync_warp();
  o.a[t] = words[t ^ 1];
  words[t] = 7;
}
__global__ void exchange_between_warps_with_sync_warp(Operands o) {
  LA_SHARED(Words, words);
  const int t = int(threadIdx.x);
  words[t] = t;
  sync_warp();
  o.a[t] = words[t ^ 32];
}
__global__ void outside_of_shared_memory(Operands o) {
  LA_SHARED(Words, words);
  const int t = int(threadIdx.x);
  words[t] = t;
  sync_threads();
  o.a[t] = words[t + 1];
}
__global__ void correct_bytes_side_by_side(Operands o) {
  using Bytes = unsigned char[64];
  LA_SHARED(Bytes, bytes);
  bytes[threadIdx.x] = 1;
  sync_threads();
  o.a[threadIdx.x] = bytes[63 - threadIdx.x];
}
__global__ void reads_what_another_block_wrote(Operands o) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  o.a[i] = i;
  o.b[i] = o.a[i ^ 64];
}
__global__ void overwrites_what_another_block_read(Operands o) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  o.b[i] = o.a[127 - i];
  o.a[i] = i;
}
__global__ void correct_in_place(Operands o) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  o.a[i] += 1;
}
__global__ void behind_the_end(Operands o) { o.a[threadIdx.x] = o.b[threadIdx.x * 3]; }
__global__ void misaligned_vector(Operands o) { *reinterpret_cast<Vec<int, 4>*>(o.a + 1) = Vec<int, 4>{}; }
__global__ void correct_atomics(Operands o) { emulate::atomic_add(o.a, 1); }
__global__ void atomic_and_plain(Operands o) {
  using Word = int[1];
  LA_SHARED(Word, word);
  if (threadIdx.x == 0) word[0] = 0;
  sync_threads();
  emulate::atomic_add(&word[0], 1);
  o.a[threadIdx.x] = word[0];
}
__global__ void ends_with_a_copy_in_flight(Operands o) {
  copy_async(dynamic_shared<int>() + threadIdx.x * 4, o.a);
  commit_copies();
}
__global__ void reads_a_copy_in_flight(Operands o) {
  int* shared = dynamic_shared<int>();
  copy_async(shared + threadIdx.x * 4, o.a);
  commit_copies();
  o.b[threadIdx.x] = shared[threadIdx.x * 4];
  wait_copies<0>();
}
// The second thread's copy is not even issued when the first thread reads its bytes.
__global__ void reads_a_copy_without_barrier(Operands o) {
  int* shared = dynamic_shared<int>();
  copy_async(shared + threadIdx.x * 4, o.a);
  commit_copies();
  wait_copies<0>();
  o.b[threadIdx.x] = shared[(threadIdx.x ^ 1) * 4];
}
__global__ void copy_to_a_misaligned_address(Operands o) {
  copy_async(dynamic_shared<int>() + threadIdx.x, o.a);
  commit_copies();
  wait_copies<0>();
}
__global__ void correct_copy(Operands o) {
  int* shared = dynamic_shared<int>();
  copy_async(shared + threadIdx.x * 4, o.a, 8);
  commit_copies();
  wait_copies<0>();
  sync_threads();
  o.b[threadIdx.x] = shared[(threadIdx.x ^ 1) * 4 + 3];
}
__global__ void lanes_in_two_shuffles(Operands o) {
  float v = 0;
  if (threadIdx.x % 2 == 0) {
    v = shuffle_xor(1.0f, 2);
  } else {
    v = shuffle_xor(2.0f, 2);
  }
  o.a[threadIdx.x] = int(v);
}
__global__ void a_lane_leaves_before_a_vote(Operands o) {
  if (threadIdx.x == 5) return;
  o.a[threadIdx.x] = any(threadIdx.x == 3);
}
__global__ void barriers_in_loops_of_different_length(Operands o) {
  for (unsigned i = 0; i <= threadIdx.x / 32; ++i) sync_threads();
  o.a[threadIdx.x] = 1;
  sync_threads();
}
__global__ void copy(Operands o) { o.a[threadIdx.x] = o.b[threadIdx.x]; }

template <void (*kKernel)(Operands)>
void launch_kernel(const FaultyKernel& kernel, const Operands& operands) {
  launch({kernel.name, {kernel.blocks, 1, 1}, 64, 1024}, Stream(), kKernel, operands);
}

#define LA_KERNEL(name, finding, blocks) \
  { #name, finding, blocks, launch_kernel < name> }
constexpr FaultyKernel kKernels[] = {
    LA_KERNEL(correct_exchange_in_warp, "", 1),
    LA_KERNEL(exchange_in_warp_without_sync, "nobody wrote", 1),
    LA_KERNEL(overwrites_what_a_lane_read, "since the last barrier", 1),
    LA_KERNEL(exchange_between_warps_with_sync_warp, "nobody wrote", 1),
    LA_KERNEL(outside_of_shared_memory, "outside of shared memory", 1),
    LA_KERNEL(correct_bytes_side_by_side, "", 1),
    LA_KERNEL(reads_what_another_block_wrote, "in the same launch", 2),
    LA_KERNEL(overwrites_what_another_block_read, "in the same launch", 2),
    LA_KERNEL(correct_in_place, "", 2),
    LA_KERNEL(behind_the_end, "behind the end of an allocation of 512 bytes", 1),
    LA_KERNEL(misaligned_vector, "not aligned", 1),
    LA_KERNEL(correct_atomics, "", 2),
    LA_KERNEL(atomic_and_plain, "since the last barrier", 1),
    LA_KERNEL(ends_with_a_copy_in_flight, "nobody waited for", 1),
    LA_KERNEL(reads_a_copy_in_flight, "still copying into", 1),
    LA_KERNEL(reads_a_copy_without_barrier, "nobody wrote", 1),
    LA_KERNEL(copy_to_a_misaligned_address, "not aligned", 1),
    LA_KERNEL(correct_copy, "", 1),
    LA_KERNEL(lanes_in_two_shuffles, "disagree", 1),
    LA_KERNEL(a_lane_leaves_before_a_vote, "threads have ended", 1),
    LA_KERNEL(barriers_in_loops_of_different_length, "waits in another", 1),
};

}  // namespace

std::span<const FaultyKernel> faulty_kernels() { return kKernels; }

void launch_copy(const Operands& operands, unsigned shared_bytes) {
  launch({"copy", {1, 1, 1}, 64, shared_bytes}, Stream(), copy, operands);
}

}  // namespace liveavatar::cuda::emulated
