// Flags that several commands share. Their spelling: the original writes --num_clip, people write --num-clip; both are
// the same flag here.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace liveavatar::cli {

// Long flags with dashes inside become underscores ("--num-clip=3" -> "--num_clip=3"); values stay untouched.
std::vector<std::string> normalise_flags(int argc, char** argv);

// The known word that is most like `word`, or "" when none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& known);

// --weights_dtype, --kv_dtype and --int8_products, of the video model.
CLI::Option* add_weights_dtype(CLI::App& app, std::string& value);
CLI::Option* add_kv_dtype(CLI::App& app, std::string& value);
CLI::Option* add_int8_products(CLI::App& app, bool& value);

}  // namespace liveavatar::cli
