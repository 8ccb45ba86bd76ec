// Detects files whose content does not match their name.
#pragma once

#include <nlohmann/json.hpp>

#include "weights/file.h"

namespace liveavatar {

// kCorrupt for failed downloads: an empty file, a Git LFS pointer, a web page. Ok: none of these.
Status explain_wrong_file(const File& file);

// A JSON file of a checkpoint, 64 MiB at most. Errors have the file and the position in it.
Expected<nlohmann::json> read_json_file(const std::string& path);

}  // namespace liveavatar
