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

RunReport run_report_of(const PlanReport& plan_report, const LocalEngine& engine, StageClock& clock, int64_t frames) {
  RunReport run_report;
  run_report.predicted_peak_bytes = plan_report.plan.peak_bytes;
  run_report.measured_peak_bytes = peak_resident_bytes();
  run_report.charged_peak_bytes = engine.memory_peak_bytes();
  run_report.budget_bytes = plan_report.limits.device_bytes;
  run_report.host_predicted_peak_bytes = plan_report.plan.host.peak_bytes;
  run_report.host_charged_peak_bytes = engine.host_memory_peak_bytes();
  run_report.frames = frames;
  run_report.stage_seconds = clock.seconds();
  std::vector<CategoryMemory> categories_held = engine.memory_by_category();
  for (size_t t = 0; t < categories_held.size(); ++t)
    run_report.categories.push_back(
        {categories_held[t].name, plan_report.plan.peak_by_category[t], categories_held[t].peak_bytes});
  return run_report;
}

void print_run_report(const RunReport& run_report, bool ranks_apart) {
  auto mib = [](size_t bytes) { return double(bytes) / double(1 << 20); };
  const RunReport& r = run_report;
  if (r.host_predicted_peak_bytes > 0) {
    std::fprintf(stderr,
                 "memory: %.1f MiB of the card at the peak, planned %.1f MiB; host %.1f MiB, planned %.1f MiB\n",
                 mib(r.charged_peak_bytes), mib(r.predicted_peak_bytes), mib(r.measured_peak_bytes),
                 mib(r.host_predicted_peak_bytes));
  } else if (ranks_apart) {
    std::fprintf(stderr, "memory: %.1f MiB at the peak, of all ranks together\n", mib(r.measured_peak_bytes));
  } else {
    std::fprintf(stderr, "memory: %.1f MiB at the peak, planned %.1f MiB\n", mib(r.measured_peak_bytes),
                 mib(r.predicted_peak_bytes));
  }
  for (size_t i = 0; i < r.ranks.size(); ++i) {
    const RunReport::Rank& rank = r.ranks[i];
    std::string part = rank.part;
    if (!rank.link.empty()) part += " over " + rank.link.substr(0, rank.link.find(':'));  // the reason is in --report
    std::fprintf(stderr, "rank %zu (%s, %s): %s; %.1f MiB at the peak, planned %.1f MiB; waited %.1f of %.1f s\n", i,
                 rank.host.c_str(), rank.device.c_str(), part.c_str(), mib(rank.charged_peak_bytes),
                 mib(rank.predicted_peak_bytes), rank.waited_seconds, rank.seconds);
  }
  std::string line;
  for (const auto& [stage, seconds] : run_report.stage_seconds) {
    char part[64];
    std::snprintf(part, sizeof(part), "%s%s %.1f s", line.empty() ? "" : ", ", stage.c_str(), seconds);
    line += part;
  }
  std::fprintf(stderr, "time: %s\n", line.c_str());
}

}  // namespace liveavatar::cli
