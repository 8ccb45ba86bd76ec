// The devices of an engine, one a rank.
#pragma once

#include <string>
#include <vector>

#include "liveavatar/liveavatar.h"
#include "session/placement.h"

namespace liveavatar {

// As EngineOptions::devices says: "cuda:0,cuda:1", "cpu:2" (twice the CPU), "cpu,cuda:0"; "mpi:4": four processes, and
// `device` is this one's. Empty: EngineOptions::device alone. kInvalidArgument: an item that names no device, a card
// twice.
Expected<std::vector<std::string>> rank_devices(const EngineOptions& options);
// The device and the threads of the lead, which has these options and `devices`: ranks on the host divide its threads.
void take_lead_device(EngineOptions& options, const std::vector<std::string>& devices);
// Whether all ranks compute on the host and share its memory, the weights among it.
bool on_one_host(const EngineOptions& options, const std::vector<std::string>& devices);
// Whether the other ranks are other processes.
bool are_processes(const EngineOptions& options);
constexpr const char* kOneProcess = "mpi:1";  // of options.devices, in a rank that is told the rest by the lead
// The same for one rank on this device, which is told the rest by the lead.
EngineOptions single_rank(const EngineOptions& options, const std::string& device);
// What decides which weights a rank loads.
RankPart part_to_load(const EngineOptions& options, int rank, int ranks);
// What the options say of the ranks.
Expected<PlacementRequest> placement_request(const EngineOptions& options);

}  // namespace liveavatar
