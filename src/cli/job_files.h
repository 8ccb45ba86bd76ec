// The files of a command: what it reads, and the outputs that it holds while it runs.
#pragma once

#include <string>
#include <vector>

#include "core/output_files.h"
#include "liveavatar/liveavatar.h"

namespace liveavatar::cli {

// A file, or the files of a checkpoint in a folder and its subfolders.
void add_input(std::vector<NamedPath>& inputs, const std::string& flag, const std::string& path);
// What an engine with these options reads.
void add_engine_inputs(std::vector<NamedPath>& inputs, const EngineOptions& options);

// kInvalidArgument if an output is an input or another output, or a segment of a playlist would be an input.
Status check_inputs_stay(const std::vector<NamedPath>& inputs, const std::vector<NamedPath>& outputs);

// Checks that before a file is opened, and claims the outputs: each can be written and no other job writes it. The
// claims are in the order of `outputs`.
Expected<std::vector<OutputClaim>> claim_outputs(const std::vector<NamedPath>& inputs,
                                                 const std::vector<NamedPath>& outputs);

// kInvalidArgument if the existing file is of another kind than the output: a portrait or a voice that was named by
// mistake.
Status check_replaces_json(const NamedPath& output);
Status check_replaces_packed(const NamedPath& output);

// kInvalidArgument if no video format has the name's ending.
Status check_video_path(const NamedPath& video);

}  // namespace liveavatar::cli
