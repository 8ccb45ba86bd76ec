// The results of the steps as JSON: what a step printed, and PyTorch's figures beside ours.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace liveavatar::gpu_check {

using Json = nlohmann::ordered_json;

struct Ran {
  std::string output;
  int code = 0;  // 124: stopped after its time
};

// "figure NAME NUMBER UNIT" as figures, "N passed, M failed" and the like as a summary, "card: ..." as the card, and
// the last line of what failed.
Json result_of(const Ran& ran, double seconds);

// For each figure NAME of ours with some NAME/VARIANT of the steps "torch.*": both, the quickest variant, and how many
// times as fast ours is. steps: name -> result_of().
Json compare_with_torch(const Json& steps);

// Takes the place of an older file when it is whole.
bool write_results(const Json& results, const std::string& path);  // false: it cannot be written

}  // namespace liveavatar::gpu_check
