// The one place where nvcc and the device emulation differ: kernels are written against this header and nothing else.
// Under nvcc these functions are instructions; under g++ they call emulate/. A Launch names the kernel for findings.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define LA_CUDA_VARIANT on_card
#else
#include "backend/cuda/emulate/emulate.h"
#define LA_CUDA_VARIANT emulated
#endif

namespace liveavatar::cuda::LA_CUDA_VARIANT {

struct bf16 {
  uint16_t bits;
};
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Vec {
  T at[kCount];
};

#if !defined(__CUDACC__)
using dim3 = emulate::Dim3;
#endif
struct Launch {
  const char* name;
  dim3 grid;
  unsigned threads;
  size_t shared_bytes = 0;
  bool empty() const { return grid.x == 0 || grid.y == 0 || grid.z == 0; }  // of no elements: there is nothing to do
};

#if defined(__CUDACC__)

#define LA_DEVICE __device__ __forceinline__
#define LA_PARAMETER const __grid_constant__  // read in place: no copy, also when it is indexed
#define LA_SHARED(Type, name) __shared__ Type name

using Stream = cudaStream_t;
inline Stream as_stream(void* stream) { return static_cast<Stream>(stream); }

// Never waits. Returns the error of a launch that failed: wrong sizes, or no code for this card.
template <typename... Params, typename... Args>
cudaError_t launch(const Launch& l, Stream stream, void (*kernel)(Params...), const Args&... args) {
  if (l.empty()) return cudaSuccess;
  if (l.shared_bytes > 48 * 1024) {
    cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                             cudaFuncAttributeMaxDynamicSharedMemorySize, int(l.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  kernel<<<l.grid, l.threads, l.shared_bytes, stream>>>(args...);
  return cudaGetLastError();
}

template <typename T>
LA_DEVICE T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char la_dynamic_shared[];
  return reinterpret_cast<T*>(la_dynamic_shared);
}

LA_DEVICE float shuffle_xor(float v, int lanes) { return __shfl_xor_sync(0xffffffffu, v, lanes); }
LA_DEVICE bool any(bool yes) { return __any_sync(0xffffffffu, yes); }
LA_DEVICE void sync_threads() { __syncthreads(); }
LA_DEVICE void sync_warp() { __syncwarp(); }

LA_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
LA_DEVICE float inverse_sqrt(float x) { return rsqrtf(x); }
LA_DEVICE float multiply_add(float a, float b, float sum) { return fmaf(a, b, sum); }
LA_DEVICE float inverse_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two bf16 in a register, the first in the low half; to nearest even.
LA_DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
LA_DEVICE float as_float(uint32_t bits) { return __uint_as_float(bits); }
LA_DEVICE uint32_t as_bits(float x) { return __float_as_uint(x); }

LA_DEVICE uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// 4, 8 or 16 bytes from global to shared memory, of which the first `valid` are read and the rest become zeros. Both
// aligned.
template <int kBytes = 16>
LA_DEVICE void copy_async(void* shared, const void* global, unsigned valid = kBytes) {
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global),
                 "n"(kBytes), "r"(valid)
                 : "memory");
  }
}
LA_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kGroupsLeft>
LA_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
}

// Four 8x8 matrices of 16-bit elements from shared memory; lane l names row l % 8 of matrix l / 8 (16 bytes).
LA_DEVICE void load_matrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
LA_DEVICE void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// d[16, 8] += a[16, k] * b[k, 8] over a warp; k is 16, or 32 of 8-bit operands. b0, b1: b's two registers.
LA_DEVICE void multiply_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
LA_DEVICE void multiply_s8(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
LA_DEVICE void multiply_e4m3(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 890
  __trap();  // older cards have no such instruction; whoever launches asks the card first
#else
  asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

#else  // the device emulation

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define LA_DEVICE inline
#define LA_PARAMETER const
#define LA_SHARED(Type, name) Type& name = ::liveavatar::cuda::emulate::static_shared_of<Type>([] {})
#define threadIdx (::liveavatar::cuda::emulate::thread_index())
#define blockIdx (::liveavatar::cuda::emulate::block_index())
#define blockDim (::liveavatar::cuda::emulate::block_size())
#define gridDim (::liveavatar::cuda::emulate::grid_size())

using Where = emulate::Where;
using Stream = emulate::Stream*;
inline Stream as_stream(void* stream) { return static_cast<Stream>(stream); }

// Later, if there is a stream; else at once.
template <typename... Params, typename... Args>
int launch(const Launch& l, Stream stream, void (*kernel)(Params...), const Args&... args) {
  if (l.empty()) return 0;
  emulate::launch(stream, {l.name, l.grid, {l.threads, 1, 1}, l.shared_bytes}, [kernel, args...] { kernel(args...); });
  return 0;
}

template <typename T>
inline T* dynamic_shared() {
  return static_cast<T*>(emulate::dynamic_shared());
}

inline float as_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }
inline uint32_t as_bits(float x) { return __builtin_bit_cast(uint32_t, x); }
inline float shuffle_xor(float v, unsigned lanes, Where where = Where::current()) {
  return as_float(emulate::shuffle(0xffffffffu, __builtin_bit_cast(uint32_t, v), emulate::lane_index() ^ lanes, where));
}
inline bool any(bool yes, Where where = Where::current()) { return emulate::ballot(0xffffffffu, yes, where) != 0; }
inline void sync_threads(Where where = Where::current()) { emulate::sync_threads(where); }
inline void sync_warp(Where where = Where::current()) { emulate::sync_warp(0xffffffffu, where); }
inline float exp2_fast(float x) { return std::exp2(x); }
inline float inverse_sqrt(float x) { return 1.0f / std::sqrt(x); }
inline float multiply_add(float a, float b, float sum) {
#if defined(__FMA__)
  return __builtin_fmaf(a, b, sum);
#else
  return a * b + sum;  // rounds twice, but is quick: the library's function is slow
#endif
}
inline float inverse_fast(float x) { return 1.0f / x; }

inline uint32_t round_to_bf16(float x) {
  uint32_t u = __builtin_bit_cast(uint32_t, x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // the hardware's NaN
  return (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
}
inline uint32_t pack_bf16(float low, float high) { return round_to_bf16(low) | round_to_bf16(high) << 16; }

template <int kBytes = 16>
inline void copy_async(void* shared, const void* global, unsigned valid = kBytes, Where where = Where::current()) {
  emulate::copy_async(shared, global, kBytes, valid, where);
}
inline void commit_copies() { emulate::commit_copies(); }
template <int kGroupsLeft>
inline void wait_copies() {
  emulate::wait_copies(kGroupsLeft);
}
inline void load_matrices(uint32_t (&r)[4], const void* row, Where where = Where::current()) {
  emulate::load_matrices(r, 4, false, row, where);
}
inline void load_matrices_transposed(uint32_t (&r)[4], const void* row, Where where = Where::current()) {
  emulate::load_matrices(r, 4, true, row, where);
}
inline void multiply_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                          Where where = Where::current()) {
  const uint32_t b[2] = {b0, b1};
  emulate::multiply(emulate::Operand::kBF16, d, a, b, where);
}
inline void multiply_s8(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Where where = Where::current()) {
  const uint32_t b[2] = {b0, b1};
  emulate::multiply(emulate::Operand::kS8, d, a, b, where);
}
inline void multiply_e4m3(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                          Where where = Where::current()) {
  const uint32_t b[2] = {b0, b1};
  emulate::multiply(emulate::Operand::kE4M3, d, a, b, where);
}

#endif

inline unsigned blocks_for(int64_t elements, int64_t per_block) {
  return static_cast<unsigned>((elements + per_block - 1) / per_block);
}

// Whether `data` is the address of a vector of `count` elements.
template <typename T>
inline bool is_aligned(const T* data, int count) {
  return reinterpret_cast<uintptr_t>(data) % (sizeof(T) * static_cast<size_t>(count)) == 0;
}

LA_DEVICE float to_float(float x) { return x; }
LA_DEVICE float to_float(bf16 x) { return as_float(uint32_t(x.bits) << 16); }
LA_DEVICE bf16 to_bf16(float x) { return {static_cast<uint16_t>(pack_bf16(x, 0.0f))}; }
LA_DEVICE void put(float* at, float x) { *at = x; }
LA_DEVICE void put(bf16* at, float x) { *at = to_bf16(x); }

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
