// Files that are something else than their name says.
#pragma once

#include <nlohmann/json.hpp>

#include "weights/file.h"

namespace liveavatar {

// kCorrupt for what downloads leave in a file's place: nothing, a Git LFS pointer, a web page. Ok: none of these.
Status explain_wrong_file(const File& file);

// A JSON file of a checkpoint, 64 MiB at most. Errors name the file and the place in it.
Expected<nlohmann::json> read_json_file(const std::string& path);

}  // namespace liveavatar
