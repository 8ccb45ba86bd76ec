#include "backend/cpu/isa.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

namespace liveavatar::cpu {
namespace {

struct Candidate {
  const char* name;
  const Kernels* (*kernels)();
  bool available;
  bool only_forced = false;
};

// Linux allows tile registers only after a request, because they make the threads' save areas 8 KiB larger.
bool may_use_tiles() {
  constexpr long kAskForFeature = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kAskForFeature, kTileData) == 0;
}

// Tiles of bf16 and int8, from the bits of cpuid: not every compiler has names for them.
bool has_tiles() {
  constexpr unsigned kFeatures = 7, kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25, kAll = kBf16 | kTile | kInt8;
  unsigned a = 0, b = 0, c = 0, d = 0;
  bool known = __get_cpuid_count(kFeatures, 0, &a, &b, &c, &d) != 0;
  return known && (d & kAll) == kAll;
}

// Best first. Intel's AMX machines run the bf16 dot product at half the rate of f32 multiply-adds, so there the plain
// AVX-512 kernels go first.
std::vector<Candidate> candidates() {
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  bool dot = avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
  bool bytes = dot && __builtin_cpu_supports("avx512vbmi");
  bool tiles = bytes && has_tiles() && may_use_tiles();
  Candidate amx{"amx", amx_kernels, tiles};
  Candidate bf16{"avx512bf16", avx512bf16_kernels, dot};
  Candidate wide{"avx512", avx512_kernels, avx512};
  Candidate small_output{"avx2", avx2_kernels, avx2};
  Candidate model{"amx-model", amx_emulated_kernels, bytes, true};
  if (__builtin_cpu_is("intel")) return {amx, wide, bf16, small_output, model};
  return {amx, bf16, wide, small_output, model};
}

}  // namespace

Expected<IsaChoice> choose_isa(const std::string& forced, bool int8_products) {
  std::string wanted = forced, origin = "asked for";
  if (wanted.empty()) {
    const char* environment = std::getenv("LIVEAVATAR_ISA");
    if (environment) wanted = environment;
    origin = "LIVEAVATAR_ISA";
  }
  const std::vector<Candidate> all = candidates();
  if (wanted.empty() && int8_products) {
    // Products of int8 are worth more than the difference between kernels for bf16.
    for (const Candidate& c : all) {
      if (c.available && !c.only_forced && c.kernels()->quantise_row != nullptr)
        return IsaChoice{c.kernels(), "the fastest this CPU has for int8 products"};
    }
  }
  std::string have;
  for (const Candidate& c : all) {
    if (!c.available) continue;
    have += (have.empty() ? "" : ", ") + std::string(c.name);
    if (wanted.empty() && !c.only_forced) return IsaChoice{c.kernels(), "the fastest this CPU has"};
    if (wanted == c.name) return IsaChoice{c.kernels(), origin};
  }
  if (have.empty()) return unsupported("`device` cpu: this CPU has no AVX2 with FMA; use `device` reference (slow)");
  return invalid_argument("LIVEAVATAR_ISA=" + wanted + ": this CPU has " + have);
}

}  // namespace liveavatar::cpu
