// The report of a run: seconds by stage, planned and measured memory.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "pipeline/engine.h"
#include "plan/report.h"

namespace liveavatar::cli {

// Seconds by stage; a stage lasts until the next one begins.
class StageClock {
 public:
  void begin(const std::string& stage);
  std::vector<std::pair<std::string, double>> seconds();  // up to now, in order of first appearance

 private:
  using Clock = std::chrono::steady_clock;
  void close();
  std::vector<std::pair<std::string, double>> total_;
  std::string stage_;
  Clock::time_point since_;
};

// Highest resident set of this process so far (VmHWM): memory and the mapped program, without the page cache.
size_t peak_resident_bytes();

RunReport run_report_of(const PlanReport& plan_report, const LocalEngine& engine, StageClock& clock, int64_t frames);
// A few lines for people. ranks_apart: several in this process, with a budget each, and what is measured is the process.
void print_run_report(const RunReport& run_report, bool ranks_apart);

}  // namespace liveavatar::cli
