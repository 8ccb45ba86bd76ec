// The flags of a model's files.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "liveavatar/liveavatar.h"

namespace liveavatar::cli {

// --ckpt_dir, its parts by their own flags, and the LoRA adapters.
void add_model_flags(CLI::App& app, EngineOptions& options, const std::string& group);
// The same without --ckpt_dir.
void add_part_flags(CLI::App& app, EngineOptions& options, const std::string& group);

// Whether --ckpt_dir or a part was given.
bool names_model(const EngineOptions& options);

// Names on the hub become folders of its local cache. A video model made by `convert` is recognised by its content.
Status find_local_files(EngineOptions& options);

// The mini model that comes with the program.
Status use_embedded_model(EngineOptions& options);

}  // namespace liveavatar::cli
