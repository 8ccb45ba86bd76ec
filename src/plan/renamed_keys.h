// JSON keys that were renamed. Documents hold the old name beside the new one for one version, 0.1; then this file goes.
#pragma once

#include <nlohmann/json.hpp>

namespace liveavatar {

// Adds the old name of each renamed key that `json` holds: of `plan --json`, `--report` and `bench --json`.
void add_renamed_keys(nlohmann::ordered_json& json);

}  // namespace liveavatar
