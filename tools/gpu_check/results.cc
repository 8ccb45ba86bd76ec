#include "results.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

namespace liveavatar::gpu_check {
namespace {

constexpr std::string_view kCardLine = "card: ";  // describe_card

bool is_summary(const std::string& line) {
  return line.find(" passed, ") != std::string::npos || line.find("[  PASSED  ]") == 0 ||
         line.find(" SUMMARY: ") != std::string::npos;  // compute-sanitizer's
}

bool is_time(const std::string& unit) { return unit == "ms" || unit == "s"; }

// "NAME (UNIT)" or "NAME/VARIANT (UNIT)".
struct Figure {
  std::string name, variant, unit;
};
Figure parse_figure(const std::string& key) {
  const size_t open = key.rfind(" ("), slash = std::min(key.rfind('/', open), open);
  return {key.substr(0, slash), slash == open ? "" : key.substr(slash + 1, open - slash - 1),
          key.substr(open + 2, key.size() - open - 3)};
}

bool is_torch(const std::string& step) { return step.starts_with("torch."); }

// null: no step of ours has it.
Json our_figure(const Json& steps, const Figure& figure) {
  const std::string key = figure.name + " (" + figure.unit + ")";
  for (const auto& [name, step] : steps.items()) {
    if (!is_torch(name) && step.contains("figures") && step["figures"].contains(key)) return step["figures"][key];
  }
  return nullptr;
}

void compare(const Json& steps, const Figure& figure, double torch, Json& compared) {
  const Json ours = our_figure(steps, figure);
  if (ours.is_null()) return;
  const double ratio = is_time(figure.unit) ? torch / ours.get<double>() : ours.get<double>() / torch;
  Json& best = compared[figure.name];
  if (!best.is_null() && best["ratio"] <= ratio) return;
  best = {{"unit", figure.unit}, {"ours", ours}, {"torch", torch}, {"variant", figure.variant}, {"ratio", ratio}};
}

}  // namespace

Json result_of(const Ran& ran, double seconds) {
  Json json{{"exit_code", ran.code}, {"seconds", seconds}};
  std::istringstream lines(ran.output);
  std::string line, last;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string word, name, unit;
    double value = 0;
    if (words >> word && word == "figure" && words >> name >> value >> unit)
      json["figures"][name + " (" + unit + ")"] = value;
    if (is_summary(line)) json["summary"] = line;
    if (line.starts_with(kCardLine)) json["card"] = line.substr(kCardLine.size());
    if (!line.empty()) last = line;
  }
  if (ran.code != 0) json["last_line"] = last;
  return json;
}

Json compare_with_torch(const Json& steps) {
  Json compared = Json::object();
  for (const auto& [name, step] : steps.items()) {
    if (!is_torch(name) || !step.contains("figures")) continue;
    for (const auto& [key, value] : step["figures"].items()) compare(steps, parse_figure(key), value, compared);
  }
  return compared;
}

bool write_results(const Json& results, const std::string& path) {
  const std::string made = path + ".new";
  std::ofstream file(made);
  file << results.dump(2) << "\n";
  file.close();
  return file.good() && std::rename(made.c_str(), path.c_str()) == 0;
}

}  // namespace liveavatar::gpu_check
