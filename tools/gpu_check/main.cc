#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "golden.h"
#include "gpu_check.h"

namespace liveavatar::gpu_check {
namespace {

constexpr const char* kHelp =
    "gpu_check [all] [--device cuda|cuda:N|cuda-emulated] [--seconds 480] [--results gpu-check.json]\n"
    "          [--goldens FOLDER] [--only STEP,...] [--python python3] [--torch_side torch_side.py] [--run COMMAND]\n"
    "Checks and measures the CUDA backend on this machine's card: goldens, ops against the reference, rates, layers\n"
    "of the 14B model, the same in PyTorch. Results are written after every step.\n"
    "--only: the steps whose names begin so. --run: how this program is started, where not by its name.\n"
    "A single step: gpu_check card|ops|rates|layers|copies|ranks DEVICE, gpu_check golden FLAGS FOLDER...,\n"
    "gpu_check bench DEVICE layers=4 size=704*384 [int8|fp8] [kv_int8] [budget_mib=N] [host_mib=N] [paging=FOLDER] "
    "[blocks=N]\n";

// The tests of ops, of that device alone.
int run_op_tests(const std::string& device) {
  const bool emulated = device == "cuda-emulated";
  std::string program = "gpu_check",
              filter = emulated ? "--gtest_filter=*/cuda_emulated*" : "--gtest_filter=*/cuda_card*";
  char* argv[] = {program.data(), filter.data(), nullptr};
  int argc = 2;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

int all(const std::string& program, const std::vector<std::string>& flags) {
  Options options;
  std::string command = program;
  for (size_t i = 0; i + 1 < flags.size(); i += 2) {
    if (flags[i] == "--device") options.device = flags[i + 1];
    if (flags[i] == "--results") options.results = flags[i + 1];
    if (flags[i] == "--goldens") options.goldens = flags[i + 1];
    if (flags[i] == "--python") options.python = flags[i + 1];
    if (flags[i] == "--torch_side") options.torch_side = flags[i + 1];
    if (flags[i] == "--only") options.only = flags[i + 1];
    if (flags[i] == "--seconds") options.seconds = std::atof(flags[i + 1].c_str());
    if (flags[i] == "--run") command = flags[i + 1];
  }
  if (!(options.seconds > 0)) {
    std::fputs("gpu_check: --seconds: give a number above 0\n", stderr);
    return 2;
  }
  return run_all(command, options);
}

int golden_step(int argc, char** argv) {
  using namespace golden;
  // The others read pictures and sounds, which would need FFmpeg's libraries.
  const Kinds kinds{{"s2v_dit", check_s2v_dit}, {"wan_vae", check_wan_vae}, {"umt5", check_umt5}};
  return run(argc, argv, kinds);
}

int run_step(int argc, char** argv) {
  const std::string step = argc > 1 ? argv[1] : "all";
  std::vector<std::string> more(argv + std::min(argc, 2), argv + argc);
  if (step == "--help" || step == "-h") {
    std::fputs(kHelp, stdout);
    return 0;
  }
  if (step.starts_with("--")) more.insert(more.begin(), step);
  if (step == "all" || step.starts_with("--")) return all(argv[0], more);
  if (step == "golden") return golden_step(argc - 1, argv + 1);
  const std::string device = more.empty() ? "cuda" : more.front();
  if (step == "card") return describe_card(device);
  if (step == "ops") return run_op_tests(device);
  if (step == "rates") return measure_rates(device);
  if (step == "layers") return measure_layers(device);
  if (step == "copies") return measure_copies(device);
  if (step == "ranks") return check_ranks(device);
  if (step == "bench") return run_bench_step(device, {more.begin() + 1, more.end()});
  std::fputs(kHelp, stderr);
  return 2;
}

}  // namespace
}  // namespace liveavatar::gpu_check

int main(int argc, char** argv) { return liveavatar::gpu_check::run_step(argc, argv); }
