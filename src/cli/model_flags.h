// The flags that say where a model's files lie.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "liveavatar/liveavatar.h"

namespace liveavatar::cli {

// --ckpt_dir, the video model and the LoRA adapters.
void add_model_flags(CLI::App& app, EngineOptions& options, const std::string& group);

// Names of the hub become folders of its local cache. True: no model was named, and the one that comes with the program
// is taken.
Expected<bool> settle_model_files(EngineOptions& options);

constexpr const char* kEmbeddedSize = "128*128";  // what that model was trained at

}  // namespace liveavatar::cli
