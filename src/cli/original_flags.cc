#include "cli/original_flags.h"

#include <algorithm>
#include <array>

#include "core/text.h"

namespace liveavatar::cli {
namespace {

// The original's str2bool, in lower case.
constexpr std::array kTrue{"true", "yes", "t", "y", "1"}, kFalse{"false", "no", "f", "n", "0"};

template <typename Words>
bool is_one_of(const std::string& text, const Words& words) {
  return std::find(words.begin(), words.end(), lower_case(text)) != words.end();
}

std::string check_bool(const std::string& text) {
  bool known = is_one_of(text, kTrue) || is_one_of(text, kFalse);
  return known ? "" : "--offload_model " + text + ": choose True or False";
}

}  // namespace

bool OriginalFlags::all_in_memory() const { return is_one_of(offload_model, kFalse); }

void add_original_flags(CLI::App& app, OriginalFlags& flags, const std::string& group) {
  app.add_option("--offload_model", flags.offload_model,
                 "The original's. True: models that do not run release their memory, as always here, and layers\n"
                 "are paged from disk where --memory_budget needs it. False: no layer may be paged")
      ->check(CLI::Validator(check_bool, "True|False"))
      ->group(group);
  app.add_flag("--t5_cpu", flags.t5_cpu, "The original's: the text encoder on the CPU, where it always runs here")
      ->group(group);
}

std::vector<std::string> explain(const OriginalFlags& flags) {
  std::vector<std::string> lines;
  if (flags.all_in_memory()) {
    lines.push_back(
        "--offload_model False: every layer of the video model stays in memory; the text encoder's pass through");
  } else if (!flags.offload_model.empty()) {
    lines.push_back(
        "--offload_model True: the text encoder's layers pass through and are freed, as always; the video model's "
        "page to disk under --memory_budget with --paging_dir or --dit");
  }
  if (flags.t5_cpu) lines.push_back("--t5_cpu: the text encoder runs on the CPU anyway");
  return lines;
}

Status check_original_flags(const OriginalFlags& flags, const JobShape& resolved) {
  if (!flags.all_in_memory() || !resolved.paged()) return {};
  return invalid_argument("--offload_model False: only " + std::to_string(resolved.resident()) + " of " +
                          std::to_string(resolved.shapes.dit.layers) +
                          " layers fit into --memory_budget; raise it, or leave --offload_model out");
}

}  // namespace liveavatar::cli
