// kernels_bench: every hot op at the models' shapes, each with its share of this machine's limit, which is measured
// first.
//   kernels_bench --benchmark_filter=mini            LIVEAVATAR_ISA=avx2 and LIVEAVATAR_THREADS=1 choose a path
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "backend/cpu/isa.h"
#include "core/memory.h"
#include "kernels.h"
#include "ops/make_backend.h"

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

int main(int argc, char** argv) {
  using namespace liveavatar;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  Budget budget;
  BackendOptions options;
  options.threads = std::atoi(environment("LIVEAVATAR_THREADS").c_str());
  options.budget = &budget;
  Expected<std::unique_ptr<Backend>> backend = make_backend("cpu", options);
  options.int8_products = true;
  Expected<std::unique_ptr<Backend>> int8 = make_backend("cpu", options);
  if (!backend.ok() || !int8.ok()) {
    std::fprintf(stderr, "kernels_bench: %s\n", (backend.ok() ? int8 : backend).status().message().c_str());
    return 1;
  }
  bench::Limits limits = bench::measure_limits((*backend)->threads(), cpu::choose_isa("")->kernels->name);
  benchmark::AddCustomContext("backend", (*backend)->describe());
  char line[160];
  std::snprintf(line, sizeof(line), "%.1f Gflop/s in registers (%s), %.1f GB/s copied", limits.flops_per_s / 1e9,
                limits.isa.c_str(), limits.copy_bytes_per_s / 1e9);
  benchmark::AddCustomContext("limit", line);
  bench::register_kernels(**backend, **int8, budget, limits);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
