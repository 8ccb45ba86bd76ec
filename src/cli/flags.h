// Flags that several commands share. Their spelling: the original writes --num_clip, people write --num-clip; both are
// the same flag here.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "core/status.h"
#include "liveavatar/liveavatar.h"

namespace liveavatar::cli {

// Arguments of a command as the parser takes them. Its flags have underscores, today's names, and their values behind
// "=". All else is what it was: values, file names, and whatever comes behind "--".
struct Arguments {
  std::vector<std::string> args;
  std::vector<std::string> notes;  // a line for each flag that was renamed
  bool quiet = false;
};
// kInvalidArgument: a flag without its value.
Expected<Arguments> read_arguments(const CLI::App& command, const std::vector<std::string>& args);

// Of a command, with the names that flags had before.
std::vector<std::string> known_flags(const CLI::App& command);

// The known word that is most like `word`, or "" when none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& known);

// --dtype; then --weights_dtype, --kv_dtype and --activations_dtype, of the video model.
CLI::Option* add_dtype(CLI::App& app, ComputeType& value);
CLI::Option* add_weights_dtype(CLI::App& app, WeightsType& value);
CLI::Option* add_kv_dtype(CLI::App& app, KvType& value);
CLI::Option* add_activations_dtype(CLI::App& app, bool& int8_products);
// --tune, of a card.
CLI::Option* add_tune(CLI::App& app, Tune& value);

// A number of bytes with a unit: 8GiB, 1.5g, 1536MiB (all of 1024). The option's value is a size_t.
CLI::Option* add_memory(CLI::App& app, const std::string& flag, size_t& bytes, const std::string& help);

// --fp8, the original's name for a --weights_dtype. kInvalidArgument where that says something else.
Status resolve_fp8(bool fp8, WeightsType& weights_dtype);

CLI::Option* add_schedule(CLI::App& app, Schedule& value, const std::string& help);
CLI::Option* add_check_finite(CLI::App& app, CheckFinite& value);
CLI::Option* add_on_nan(CLI::App& app, OnNan& value);
CLI::Option* add_sample_solver(CLI::App& app, SampleSolver& value);
CLI::Option* add_video_encoder(CLI::App& app, VideoEncoder& value);

// --threads.
CLI::Option* add_threads(CLI::App& app, int& threads);
// --decode_threads and --no_decode_beside.
void add_decode_flags(CLI::App& app, EngineOptions& engine, const std::string& group);
CLI::Option* add_cache_memory(CLI::App& app, size_t& bytes);
// A line where there are more than the engine takes; else empty.
std::string threads_note(int threads);

// --base_seed: 0 to 2^64 - 1; -1 leaves the seed as it is.
CLI::Option* add_seed(CLI::App& app, uint64_t& seed);

// Numbers that do not fit into their type are refused: the parser would take the nearest that does.
void check_numbers(CLI::App& app);

}  // namespace liveavatar::cli
