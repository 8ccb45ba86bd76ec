// `liveavatar plan --devices 4xrtx4090`: which device does what, and how fast they are together. All of it predicted.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>

#include "plan/report.h"

namespace liveavatar::cli {

// --link; and --num_gpus_dit, --ulysses_size and --enable_vae_parallel, which the command has already, get a place in
// its help.
void add_placement_flags(CLI::App& app, std::string& link, const std::string& group);

// What the three say; none of them: nothing.
// Whether the weights are to be dealt to the devices.
bool asks_for_shards(const CLI::App& app);
std::optional<PlacementRequest> asked_request(const CLI::App& app, int devices);

void print_placement(const PlacementReport& report, const DeviceProfile& device);

}  // namespace liveavatar::cli
