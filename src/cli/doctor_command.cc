// `liveavatar doctor`: what this machine offers and what the engine chose.
#include <sys/sysinfo.h>

#include <cstdio>

#include "cli/commands.h"
#include "cli/field_flags.h"
#include "core/memory.h"
#include "ops/make_backend.h"

namespace liveavatar::cli {
namespace {

int doctor() {
  struct sysinfo machine {};
  sysinfo(&machine);
  size_t unit = machine.mem_unit;
  std::printf("memory: %zu MiB, %zu MiB free\n", size_t{machine.totalram} * unit >> 20,
              size_t{machine.freeram} * unit >> 20);
  int working = 0;
  for (const char* device : {"cpu", "reference"}) {
    Budget budget;
    BackendOptions options;
    options.budget = &budget;
    options.int8_products = true;
    auto backend = make_backend(device, options);
    working += backend.ok();
    std::printf("--device %s: %s\n", device,
                in_flags(backend.ok() ? (*backend)->describe() : backend.status().message()).c_str());
    if (backend.ok() && std::string(device) == "cpu")
      std::printf("--activations_dtype int8: %s\n",
                  (*backend)->int8_products()
                      ? "these kernels multiply in 8 bits; off unless asked for"
                      : "not with these kernels (they need AVX512-BF16 with VNNI, or AMX; where the CPU "
                        "has them, LIVEAVATAR_ISA=avx512bf16 chooses them); int8 weights are unpacked to bf16");
  }
  return working > 0 ? 0 : 1;
}

}  // namespace

Command add_doctor(CLI::App& app) {
  app.add_subcommand("doctor", "Show what this machine offers and which kernels were chosen, and why");
  return doctor;
}

}  // namespace liveavatar::cli
