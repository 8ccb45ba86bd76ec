#include "limits.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

namespace liveavatar::bench {

namespace {

constexpr int kChains = 12;  // independent sums: enough to hide the latency of a multiply-add
constexpr long kRounds = 4'000'000;
constexpr int kTries = 3;
constexpr int kTileShare = 16;  // a product of tiles takes the time of so many vector instructions

double seconds_of(int threads, const auto& work) {
  double best = 1e30;
  for (int i = 0; i < kTries; ++i) {
    auto begin = std::chrono::steady_clock::now();
    std::vector<std::jthread> all;
    for (int t = 0; t < threads; ++t) all.emplace_back([&work, t] { work(t); });
    all.clear();  // joins
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

// The sums leave through a register, so that nothing is optimised away.
__attribute__((target("avx2,fma"))) void avx2_loop() {
  __m256 sums[kChains], x = _mm256_set1_ps(1e-9f);
  for (__m256& s : sums) s = _mm256_setzero_ps();
  for (long i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m256& s : sums) s = _mm256_fmadd_ps(x, x, s);
    asm volatile("" : "+x"(x));
  }
  for (__m256& s : sums) asm volatile("" ::"x"(s));
}

__attribute__((target("avx512f"))) void avx512_loop() {
  __m512 sums[kChains], x = _mm512_set1_ps(1e-9f);
  for (__m512& s : sums) s = _mm512_setzero_ps();
  for (long i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m512& s : sums) s = _mm512_fmadd_ps(x, x, s);
    asm volatile("" : "+v"(x));
  }
  for (__m512& s : sums) asm volatile("" ::"v"(s));
}

__attribute__((target("avx512f,avx512bf16"))) void avx512bf16_loop() {
  __m512 sums[kChains], x = _mm512_set1_ps(0);
  for (__m512& s : sums) s = _mm512_setzero_ps();
  for (long i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m512& s : sums) s = _mm512_dpbf16_ps(s, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(x));
    asm volatile("" : "+v"(x));
  }
  for (__m512& s : sums) asm volatile("" ::"v"(s));
}

// Full tiles of zeros: six sums, as many as two tiles of operands leave. Tiles are released, since they would make
// every switch of threads dearer.
void amx_loop() {
  struct alignas(64) {
    unsigned char palette = 1, start_row = 0, reserved[14] = {};
    unsigned short row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  asm volatile("ldtilecfg %0" ::"m"(config));
  for (long i = 0; i < kRounds / kTileShare; ++i) {
    for (int twice = 0; twice < kChains / 6; ++twice) {
      asm volatile(
          "tdpbf16ps %tmm7, %tmm6, %tmm0\n\ttdpbf16ps %tmm7, %tmm6, %tmm1\n\ttdpbf16ps %tmm7, %tmm6, %tmm2\n\t"
          "tdpbf16ps %tmm7, %tmm6, %tmm3\n\ttdpbf16ps %tmm7, %tmm6, %tmm4\n\ttdpbf16ps %tmm7, %tmm6, %tmm5");
    }
  }
  asm volatile("tilerelease");
}

struct Loop {
  void (*run)();
  int flops;  // of one multiply-add instruction
};

Loop loop_of(const std::string& isa) {
  if (isa == "amx") return {amx_loop, 16 * 16 * 32 * 2 / kTileShare};
  if (isa == "avx512bf16") return {avx512bf16_loop, 64};
  if (isa == "avx512") return {avx512_loop, 32};
  return {avx2_loop, 16};
}

double copy_bytes_per_s(int threads) {
  constexpr size_t kBytes = size_t{128} << 20;
  std::vector<std::vector<char>> from(static_cast<size_t>(threads)), to(static_cast<size_t>(threads));
  for (size_t t = 0; t < from.size(); ++t) {
    from[t].assign(kBytes, 1);
    to[t].assign(kBytes, 2);
  }
  double seconds = seconds_of(threads, [&](int t) {
    size_t i = static_cast<size_t>(t);
    std::memcpy(to[i].data(), from[i].data(), kBytes);
    asm volatile("" ::"r"(to[i].data()) : "memory");
  });
  return 2.0 * static_cast<double>(kBytes) * threads / seconds;
}

}  // namespace

Limits measure_limits(int threads, const std::string& isa) {
  Limits limits;
  limits.isa = isa;
  Loop loop = loop_of(limits.isa);
  double seconds = seconds_of(threads, [&loop](int) { loop.run(); });
  limits.flops_per_s = static_cast<double>(kRounds) * kChains * loop.flops * threads / seconds;
  limits.copy_bytes_per_s = copy_bytes_per_s(threads);
  return limits;
}

}  // namespace liveavatar::bench
