// `liveavatar plan` on several devices: --devices as `generate` has them, or 4xrtx4090, equal cards that need not be
// here.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "liveavatar/liveavatar.h"
#include "plan/report.h"

namespace liveavatar::cli {

// The flags of add_rank_flags(), and --link.
void add_placement_flags(CLI::App& app, EngineOptions& options, std::string& link, const std::string& group);

// What the flags come to.
struct PlannedDevices {
  std::optional<DeviceProfile> cards;       // so many of this kind; none: the devices that the options name
  std::optional<PlacementRequest> request;  // which of `cards` does what; none: the fastest placement
  bool shards = false;                      // the weights are dealt to `cards`
};
// profile: of --device_profile. What is said of `cards` is taken out of the options. Lines for people in notes.
Expected<PlannedDevices> planned_devices(const CLI::App& app, const std::string& profile, EngineOptions& options,
                                         std::vector<std::string>& notes);

void print_placement(const PlacementReport& report, const DeviceProfile& device);
// Each rank's memory, of devices without a time model.
void print_ranks(const PlanReport& report);

}  // namespace liveavatar::cli
