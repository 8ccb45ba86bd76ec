// Flags of several devices, the original's names among them.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "liveavatar/liveavatar.h"

namespace liveavatar::cli {

// Into these options. Of the original's flags alone, which its scripts give on every machine: see resolve_rank_flags.
void add_rank_flags(CLI::App& app, EngineOptions& options, const std::string& group);

// "--num_gpus_dit 4, --enable_vae_parallel": those that were given.
std::string given_rank_flags(const CLI::App& app);
// One device makes the video.
void leave_out_ranks(EngineOptions& options);

// Without --devices: on cards as many as the original's flags take, from --device on; else they are left out. Lines for
// people in notes.
Status resolve_rank_flags(const CLI::App& app, EngineOptions& options, std::vector<std::string>& notes);

}  // namespace liveavatar::cli
