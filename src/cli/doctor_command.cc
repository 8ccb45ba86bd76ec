// `liveavatar doctor`: what this machine offers and what the engine chose.
#include <sys/sysinfo.h>

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/field_flags.h"
#include "core/memory.h"
#include "ops/make_backend.h"

namespace liveavatar::cli {
namespace {

// With what kernels, which need not be those for bf16.
void print_int8_products() {
  Budget budget;
  auto backend = make_backend("cpu", {.int8_products = true, .budget = &budget});
  if (!backend.ok()) return;
  const std::string have = "off unless asked for; then " + (*backend)->describe();
  const bool supported = (*backend)->int8_products();
  std::printf("--activations_dtype int8: %s\n",
              supported ? have.c_str() : "this CPU has no kernels for it; int8 weights are unpacked to bf16");
}

int doctor(const std::string& asked) {
  struct sysinfo machine {};
  sysinfo(&machine);
  size_t unit = machine.mem_unit;
  std::printf("memory: %zu MiB, %zu MiB free\n", size_t{machine.totalram} * unit >> 20,
              size_t{machine.freeram} * unit >> 20);
  int working = 0;
  for (const char* device : {"cpu", "reference"}) {
    Budget budget;
    auto backend = make_backend(device, {.budget = &budget});
    working += backend.ok();
    std::printf("--device %s: %s\n", device,
                in_flags(backend.ok() ? (*backend)->describe() : backend.status().message()).c_str());
    if (backend.ok() && std::string(device) == "cpu") print_int8_products();
  }
  for (const std::string& card : describe_cards()) std::printf("--device cuda: %s\n", in_flags(card).c_str());
  if (is_card(asked)) {
    for (const std::string& line : describe_card_choices(asked)) std::printf("%s\n", in_flags(line).c_str());
  }
  return working > 0 ? 0 : 1;
}

}  // namespace

Command add_doctor(CLI::App& app) {
  auto device = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("doctor", "Show what this machine offers and which kernels were chosen, and why");
  command->add_option("--device", *device, "cuda or cuda:1: also the libraries of this card, and where they are used")
      ->check([](const std::string& text) { return is_card(text) ? "" : "choose cuda or cuda:N"; });
  command->footer("Examples:\n  liveavatar doctor\n  liveavatar doctor --device cuda");
  return [device] { return doctor(*device); };
}

}  // namespace liveavatar::cli
