#include "backend/cpu/isa.h"

#include <cstdlib>

namespace liveavatar::cpu {
namespace {

struct Candidate {
  const char* name;
  const Kernels* (*kernels)();
  bool available;
};

// Best first. Intel's AMX machines run the bf16 dot product at half the rate of f32 multiply-adds, so there the plain
// AVX-512 kernels go first (measured; AMX tiles themselves are not built yet).
std::vector<Candidate> candidates() {
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  bool dot = avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
  Candidate bf16{"avx512bf16", avx512bf16_kernels, dot}, wide{"avx512", avx512_kernels, avx512},
      narrow{"avx2", avx2_kernels, avx2};
  if (__builtin_cpu_is("intel")) return {wide, bf16, narrow};
  return {bf16, wide, narrow};
}

}  // namespace

Expected<IsaChoice> choose_isa(const std::string& forced) {
  std::string wanted = forced, origin = "asked for";
  if (wanted.empty()) {
    const char* environment = std::getenv("LIVEAVATAR_ISA");
    if (environment) wanted = environment;
    origin = "LIVEAVATAR_ISA";
  }
  std::string have;
  for (const Candidate& c : candidates()) {
    if (!c.available) continue;
    have += (have.empty() ? "" : ", ") + std::string(c.name);
    if (wanted.empty()) return IsaChoice{c.kernels(), "the fastest this CPU has"};
    if (wanted == c.name) return IsaChoice{c.kernels(), origin};
  }
  if (have.empty()) return unsupported("--device cpu: this CPU has no AVX2 with FMA; use --device reference (slow)");
  return invalid_argument("LIVEAVATAR_ISA=" + wanted + ": this CPU has " + have);
}

}  // namespace liveavatar::cpu
