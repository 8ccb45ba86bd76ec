#include "cli/run_report.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

namespace liveavatar::cli {

void StageClock::close() {
  if (stage_.empty()) return;
  double seconds = std::chrono::duration<double>(Clock::now() - since_).count();
  auto known = std::find_if(total_.begin(), total_.end(), [&](const auto& s) { return s.first == stage_; });
  if (known == total_.end()) {
    total_.emplace_back(stage_, seconds);
  } else {
    known->second += seconds;
  }
}

void StageClock::begin(const std::string& stage) {
  if (stage == stage_) return;
  close();
  stage_ = stage;
  since_ = Clock::now();
}

std::vector<std::pair<std::string, double>> StageClock::seconds() {
  close();
  since_ = Clock::now();
  return total_;
}

size_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with("VmHWM:")) return static_cast<size_t>(std::stoull(line.substr(6))) << 10;
  }
  return 0;
}

Truth truth_of(const Verdict& verdict, const LocalEngine& engine, StageClock& clock, int64_t frames) {
  Truth truth;
  truth.predicted_peak_bytes = verdict.plan.peak_bytes;
  truth.measured_peak_bytes = peak_resident_bytes();
  truth.charged_peak_bytes = engine.memory_peak_bytes();
  truth.budget_bytes = verdict.budget_bytes;
  truth.frames = frames;
  truth.stage_seconds = clock.seconds();
  std::vector<CategoryMemory> tenants = engine.memory_by_category();
  for (size_t t = 0; t < tenants.size(); ++t)
    truth.categories.push_back({tenants[t].name, verdict.plan.peak_by_category[t], tenants[t].peak_bytes});
  return truth;
}

void print_truth(const Truth& truth) {
  auto mib = [](size_t bytes) { return double(bytes) / double(1 << 20); };
  std::fprintf(stderr, "memory: %.1f MiB at the peak, planned %.1f MiB\n", mib(truth.measured_peak_bytes),
               mib(truth.predicted_peak_bytes));
  std::string line;
  for (const auto& [stage, seconds] : truth.stage_seconds) {
    char part[64];
    std::snprintf(part, sizeof(part), "%s%s %.1f s", line.empty() ? "" : ", ", stage.c_str(), seconds);
    line += part;
  }
  std::fprintf(stderr, "time: %s\n", line.c_str());
}

}  // namespace liveavatar::cli
