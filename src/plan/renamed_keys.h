// Renamed JSON keys. Version 0.1 writes the old name beside the new one; remove this file in the next version.
#pragma once

#include <nlohmann/json.hpp>

namespace liveavatar {

// Adds the old name of each renamed key that `json` holds: of `plan --json`, `--report` and `bench --json`.
void add_renamed_keys(nlohmann::ordered_json& json);

}  // namespace liveavatar
