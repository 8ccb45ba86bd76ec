#include "cli/flags.h"

#include <algorithm>
#include <numeric>

namespace liveavatar::cli {

std::vector<std::string> normalise_flags(int argc, char** argv) {
  std::vector<std::string> args;
  for (int i = 1; i < argc; ++i) {
    std::string arg = argv[i];
    if (arg.size() > 2 && arg.starts_with("--")) {
      size_t end = std::min(arg.find('='), arg.size());
      std::replace(arg.begin() + 2, arg.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
    }
    args.push_back(arg);
  }
  return args;
}

namespace {

// Levenshtein distance.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t change = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  std::string best;
  size_t best_distance = word.size() / 2 + 1;  // farther than half the word is no help
  for (const std::string& candidate : known) {
    size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

CLI::Option* add_weights_dtype(CLI::App& app, std::string& value) {
  return app
      .add_option("--weights_dtype", value,
                  "The video model's large matrices: bf16, int8, fp8 or q4 (default: as --dtype);\n"
                  "a half or a quarter of the memory, see docs/quantisation.md")
      ->check(CLI::IsMember({"bf16", "int8", "fp8", "q4"}));
}

CLI::Option* add_kv_dtype(CLI::App& app, std::string& value) {
  return app
      .add_option("--kv_dtype", value, "The video model's keys and values: bf16, int8 or fp8 (default: as --dtype)")
      ->check(CLI::IsMember({"bf16", "int8", "fp8"}));
}

CLI::Option* add_int8_products(CLI::App& app, bool& value) {
  return app.add_flag(
      "--int8_products", value,
      "With --weights_dtype int8: activations and attention in 8 bits too where the CPU multiplies bytes\n"
      "(AVX512-BF16 with VNNI, or AMX); faster, see docs/quantisation.md");
}

}  // namespace liveavatar::cli
