// gpu_check: what has to be seen on a card, the most telling first, in one program that needs nothing beside the
// driver. Every step runs in a process of its own, so that one that crashes or hangs costs itself alone; the results
// are written after each. docs/gpu-check.md.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/device_source.h"
#include "core/memory.h"

namespace liveavatar::gpu_check {

// "cuda", "cuda:1", or "cuda-emulated" to try the program without a card.
Expected<std::unique_ptr<DeviceSource>> open_device(const std::string& device);

// The steps' own programs: `gpu_check NAME DEVICE ...`. Each returns an exit code and prints lines; one that begins
// with "figure " has a name, a number and a unit, and becomes a number of the results.
int describe_card(const std::string& device);
int measure_rates(const std::string& device);
int measure_layers(const std::string& device);
int measure_copies(const std::string& device);
// Two ranks on one card against one.
int check_ranks(const std::string& device);
// "layers=4 size=704*384 dtype=bf16 weights=int8 budget=8GiB blocks=2"
int run_bench_step(const std::string& device, const std::vector<std::string>& settings);

void print_figure(const std::string& name, double value, const char* unit);

// What they share (measure.cc).
std::vector<float> noise_values(int64_t count);
Status fill_with_noise(Backend& backend, Budget& budget, const Tensor& t);  // t: f32 or bf16
// After a first call; repeated until that took long enough to be a measurement.
Expected<double> seconds_per_call(Backend& backend, const std::function<void()>& call);

// All steps.
struct Options {
  std::string device = "cuda", results = "gpu-check.json", goldens = "goldens";
  std::string python = "python3", torch_side = "torch_side.py";  // the script, and what runs it
  std::string only;                                              // "rates,torch.": steps whose names begin so
  double seconds = 480;  // for all together; what does not begin in time is named as skipped
};
int run_all(const std::string& program, const Options& options);

}  // namespace liveavatar::gpu_check
